"""What users bring: memory devices of their own, from files named on the command line, in EP_HW_DEVICES or in a folder.

Worker processes inherit the environment, and with it the names of all files.
"""

import os
from collections.abc import Iterable
from pathlib import Path

DEVICES = "EP_HW_DEVICES"   # paths of device files, separated as those of PATH


def bring_devices(paths: Iterable[Path]):
    """Make the devices of TOML files known, here and in worker processes.

    Raises:
        Refusal: see `mapping.register_devices`.
    """
    from mapping.crossbar.devices import register_devices

    for path in (path.absolute() for path in paths):
        register_devices(path)
        if str(path) not in _named():
            os.environ[DEVICES] = os.pathsep.join([*_named(), str(path)])


def bring_usual(folder: Path):
    """What a user always has at hand: files that EP_HW_DEVICES names, and folder/devices/*.toml.

    Raises:
        Refusal: see `mapping.register_devices`.
    """
    bring_devices([*map(Path, _named()), *sorted(folder.glob("devices/*.toml"))])


def bring_inherited():
    """In a worker process, what its host was brought."""
    bring_devices(map(Path, _named()))


def _named() -> list[str]:
    return [path for path in os.environ.get(DEVICES, "").split(os.pathsep) if path]
