"""Common corruptions at severities 1 to 5: the nineteen of CIFAR-10-C, and those that a user registers."""

from ep_hw.threats.corruptions import blur, digital, noise, weather  # noqa: F401 - each registers its own
from ep_hw.threats.corruptions.corrupt import corrupt
from ep_hw.threats.corruptions.packaged import ALL, MAIN

__all__ = ["ALL", "MAIN", "corrupt"]
