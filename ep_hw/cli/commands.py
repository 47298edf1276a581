"""All commands: importing this registers them with the application."""

from ep_hw.cli import (
    adversaries,
    analog,
    comparison,
    evaluation,
    measurements,
    networks,
    programs,
    stability,
    studies,
    tuning,
)
from ep_hw.cli.application import app

__all__ = ["adversaries", "analog", "app", "comparison", "evaluation", "measurements", "networks", "programs",
           "stability", "studies", "tuning"]
