"""Folders that tests share."""

import os
from pathlib import Path

import pytest

CIFAR_FOLDERS = (os.environ.get("EP_HW_DATA", ""), Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def cifar_root():
    """Folder that holds the real CIFAR-10 batches, where there is one."""
    for folder in filter(None, CIFAR_FOLDERS):
        if (Path(folder) / "cifar-10-batches-py").is_dir():
            return Path(folder)
    return pytest.skip("no CIFAR-10 folder on this machine (set EP_HW_DATA)")
