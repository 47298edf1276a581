"""Ordinary networks: a torch module that is a chain of layers becomes the graph that every machine takes."""

from ep_hw.networks.lowering.lower import lower, network_of

__all__ = ["lower", "network_of"]
