"""Memory devices as machines: crossbar:NAME and the rungs that lead to it, for each table of a device file.

    mapping.register_devices(Path("mine.toml"))    # in the form of devices.toml; known equations need nothing more
"""

import hashlib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

from mapping.crossbar.presets import PRESETS, Preset, load_presets
from mapping.crossbar.program import compile_crossbar
from mapping.crossbar.rungs import crossbar_rungs
from mapping.crossbar.target import RUNG_MEANINGS, CrossbarTarget, GenericTarget, rungs_of_preset
from mapping.errors import Refusal
from mapping.files import read_bytes, refusing
from mapping.registry import register_machine

VERSION = 3                 # of the code that decides what crossbars answer
GENERIC = ("generic", 2)    # kind and version of those whose errors are options: a user's g_max_us scales them
FILES: set[Path] = set()    # that devices were read from


def register_devices(devices: Path | str):
    """Make memory devices known as machines.

    Args:
        devices: a TOML file, or the text of one, a table a device.

    Raises:
        Refusal: no such file, a field that is unknown, missing or out of range, or the name of another device.
    """
    presets = read_devices(devices) if isinstance(devices, Path) else load_presets(devices)
    for name, preset in presets.items():
        if PRESETS.get(name, preset) != preset:
            raise Refusal("the device is registered already, and otherwise", where=f"preset {name}", got=preset.title,
                          allowed="a new name, or the same device again", remedy="choose another name")
    _register({name: preset for name, preset in presets.items() if name not in PRESETS}, published=False)
    if isinstance(devices, Path):
        FILES.add(devices.resolve())


def register_published():
    """Make the devices of devices.toml known."""
    text = resources.files("mapping.crossbar").joinpath("devices.toml").read_text("utf-8")
    _register(load_presets(text), published=True)


def _register(presets: Mapping[str, Preset], *, published: bool):
    PRESETS.update(presets)
    for preset in presets.values():
        kind, version = GENERIC if preset.model == GENERIC[0] else ("crossbar", VERSION)
        content = "" if published else hashlib.sha256(preset.model_dump_json().encode()).hexdigest()
        for target, meaning in _machines_of(preset):
            register_machine(target, meaning, compile=compile_crossbar, rungs=crossbar_rungs, version=version,
                             kind=kind, content=content)


def read_devices(path: Path) -> dict[str, Preset]:
    """The devices of a TOML file by name.

    Raises:
        Refusal: no such file, or a field that is unknown, missing or out of range.
    """
    with refusing("no readable devices", where=path, allowed="a TOML file", remedy="check the path"):
        text = read_bytes(path).decode()
    return load_presets(text, str(path))


def _machines_of(preset: Preset) -> Iterator[tuple[CrossbarTarget, str]]:
    """The device with all its errors, then its rungs; each with what it means."""
    make = GenericTarget.named if preset.model == GENERIC[0] else CrossbarTarget.named
    yield make(f"crossbar:{preset.name}"), preset.title
    for rung in rungs_of_preset(preset):
        yield make(f"crossbar:{preset.name}/{rung}"), RUNG_MEANINGS[rung]
