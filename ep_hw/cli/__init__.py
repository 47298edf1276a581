"""The command line: thin commands over the Python interface."""

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
from ep_hw.cli.application import app, main

__all__ = ["adversaries", "analog", "app", "comparison", "evaluation", "main", "measurements", "networks", "programs",
           "stability", "studies", "tuning"]
