"""Data sets: images with labels, in fixed splits."""

from ep_hw.data.splits import Split, load_data

__all__ = ["Split", "load_data"]
