"""Data sets: images with labels, in fixed splits."""

from ep_hw.data.cifar import CIFAR10, CIFAR100
from ep_hw.data.digits import DIGITS
from ep_hw.data.registry import DATA_SETS, DataSet, load_data, register_data
from ep_hw.data.source import DataSource
from ep_hw.data.splits import Split

__all__ = ["DATA_SETS", "DataSet", "DataSource", "Split", "load_data", "register_data"]

for data_set in (DIGITS, CIFAR10, CIFAR100):
    register_data(data_set)
