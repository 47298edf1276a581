"""What users bring: memory devices, and plug-ins in Python, from files or from packages that are installed.

Files are named on the command line, in EP_HW_DEVICES and EP_HW_PLUGINS, devices also in a folder of the user's. Worker
processes inherit the environment, and with it the names of all files.
"""

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from os.path import isfile
from pathlib import Path

from mapping.errors import Refusal

DEVICES, PLUGINS = "EP_HW_DEVICES", "EP_HW_PLUGINS"   # paths of files, separated as those of PATH
ENTRY_POINTS = "ep_hw.plugins"   # of packages whose modules register something when they are imported


def bring_devices(paths: Iterable[Path]):
    """Make the devices of TOML files known, here and in worker processes.

    Raises:
        Refusal: see `mapping.register_devices`.
    """
    from mapping.crossbar.devices import register_devices

    _bring(paths, DEVICES, register_devices)


def check_devices():
    """Refuse devices of files whose equations nobody knows, once all that was named has been brought.

    Raises:
        Refusal: see `simulators.crossbar.models.preset_model`.
    """
    from mapping.crossbar.devices import read_devices

    for path in map(Path, _named(DEVICES)):
        from simulators.crossbar.models import preset_model  # loads torch

        for preset in read_devices(path).values():
            preset_model(preset)


def bring_plugins(paths: Iterable[Path]):
    """Import Python files, which register attacks, corruptions, data sets, machines; here and in worker processes.

    Raises:
        Refusal: no file, one that cannot be imported, or one of the name of a module that is there already.
    """
    _bring(paths, PLUGINS, _import)


def bring_usual(folder: Path):
    """What a user always has at hand: what the environment names, folder/devices/*.toml, and installed plug-ins.

    Raises:
        Refusal: see `bring_devices` and `bring_plugins`.
    """
    bring_inherited()
    bring_devices(sorted(folder.glob("devices/*.toml")))


def bring_inherited():
    """In a worker process, what its host was brought."""
    for entry in entry_points(group=ENTRY_POINTS):
        entry.load()
    bring_plugins(map(Path, _named(PLUGINS)))
    bring_devices(map(Path, _named(DEVICES)))


@dataclass(frozen=True)
class Belongings:
    """The files of a user as they travel to machines that share no disk.

    Attributes:
        plugins: name and content of each.
        devices: the same.
        beside: the same, by their paths from the folder of the plug-in that imports them, or reads devices from them.
    """

    plugins: tuple[tuple[str, bytes], ...]
    devices: tuple[tuple[str, bytes], ...]
    beside: tuple[tuple[str, bytes], ...] = ()

    @property
    def digest(self) -> str:
        """16 hex digits of the sha256 of all of them."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def bring(self, place: Path):
        """Make them known here. Workers of the asker's own machine inherit the names of plug-ins, and read them where
        they are.

        Args:
            place: a folder that stays as long as this process, since modules are read again; they get one in it.

        Raises:
            Refusal: see `bring_devices` and `bring_plugins`; or a plug-in of the same name has other content.
        """
        for name, content in (one for one in (*self.plugins, *self.beside) if one[0].endswith(".py")):
            known = sys.modules.get(".".join(Path(name).with_suffix("").parts).removesuffix(".__init__"))
            if known is not None and Path(known.__file__ or "").read_bytes() != content:
                raise Refusal("another plug-in of the same name is in use there", where=name, got=str(known.__file__),
                              allowed="one file of a name", remedy="rename the file, or restart the workers")
        bring_plugins(path for path in map(Path, _named(PLUGINS)) if isfile(path) and (
            path.name, path.read_bytes()) in self.plugins)
        new = [name for name, _ in self.plugins if Path(name).stem not in sys.modules]
        folder = place / f"ep-hw-{self.digest}"
        devices = [(f"devices-{n}/{name}", content) for n, (name, content) in enumerate(self.devices)]
        for name, content in (*self.plugins, *self.beside, *devices):   # two files of devices may have one name
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        bring_plugins(folder / name for name in new)
        bring_devices(folder / name for name, _ in devices)


def belongings() -> Belongings:
    """What this process was brought."""
    from ep_hw.threats.sources import sources  # loads torch
    from mapping.crossbar.devices import FILES

    plugins, devices = ([Path(path) for path in _named(variable)] for variable in (PLUGINS, DEVICES))
    near = {str(other.relative_to(folder)): other.read_bytes() for path in plugins for folder in [path.resolve().parent]
            for other in (*sources(str(path))[1:], *FILES) if folder in other.parents}
    named, known = (tuple((path.name, path.read_bytes()) for path in paths) for paths in (plugins, devices))
    return Belongings(named, known, tuple(near.items()))


def _bring(paths: Iterable[Path], variable: str, bring: Callable[[Path], object]):
    for path in [Path(os.path.abspath(path)) for path in paths]:
        bring(path)
        if str(path) not in _named(variable):
            os.environ[variable] = os.pathsep.join([*_named(variable), str(path)])


def _named(variable: str) -> list[str]:
    return [path for path in os.environ.get(variable, "").split(os.pathsep) if path]


def _is_elsewhere(path: Path) -> bool:
    """Whether the name of a file is that of a module with other content; modules are found in the folder at hand too,
    and a worker of this machine finds its asker's.
    """
    spec = importlib.util.find_spec(path.stem)
    return spec is not None and not (
        spec.origin is not None and isfile(spec.origin) and Path(spec.origin).read_bytes() == path.read_bytes())


def _import(path: Path):
    """Import a file by its own name, so that worker processes find what it defines where it was pickled from; it may
    import what lies beside it, then or later: modules are found there after all other places.
    """
    if path.suffix != ".py" or not path.stem.isidentifier() or not isfile(path):
        raise Refusal("no plug-in", where=str(path), got="no such file" if not isfile(path) else path.name,
                      allowed="a Python file, as own_attack.py", remedy="check the path")
    if _is_elsewhere(path):
        raise Refusal("a plug-in of the name of another module", where=str(path), got=path.stem,
                      allowed="a name of its own", remedy="rename the file")
    if path.stem in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None, "a Python file has a loader"
    assert spec.loader is not None, "a Python file has a loader"
    sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[path.stem]
        if isinstance(error, Refusal):
            raise
        raise Refusal("the plug-in cannot be imported", where=str(path), got=f"{type(error).__name__}: {error}",
                      allowed="a module that registers what it brings", remedy="correct it") from error
