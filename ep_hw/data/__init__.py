"""Data sets: images with labels, in fixed splits."""

from ep_hw.data.source import DataSource
from ep_hw.data.splits import Split, load_data

__all__ = ["DataSource", "Split", "load_data"]
