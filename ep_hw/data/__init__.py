"""Data sets: images with labels, in fixed splits."""

from ep_hw.data.cifar import CIFAR10, CIFAR100
from ep_hw.data.digits import DIGITS
from ep_hw.data.published import PUBLISHED
from ep_hw.data.registry import DATA_SETS, data_set, load_data, register_data
from ep_hw.data.source import BaseDataset, DataSource
from ep_hw.data.splits import Split
from ep_hw.data.stored import Dataset

__all__ = ["DATA_SETS", "BaseDataset", "DataSource", "Dataset", "Split", "data_set", "load_data", "register_data"]

for known in (DIGITS, CIFAR10, CIFAR100, *PUBLISHED):
    register_data(known)
