"""Threats: what is done to an image, by an attack on a machine or by a corruption."""

from ep_hw.threats.threat import CLEAN, Threat, parse_threat

__all__ = ["CLEAN", "Threat", "parse_threat"]
