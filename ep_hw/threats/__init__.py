"""Threats: what is done to an image, by an attack on a machine or by a corruption."""

from ep_hw.threats import attacks, corruptions  # noqa: F401 - each registers its own
from ep_hw.threats.definitions import Attack
from ep_hw.threats.own import attack
from ep_hw.threats.registry import register_attack, register_corruption
from ep_hw.threats.threat import CLEAN, Threat, parse_threat

__all__ = ["CLEAN", "Attack", "Threat", "attack", "parse_threat", "register_attack", "register_corruption"]
