"""Imports go one way: ep_hw -> simulators -> mapping, and within ep_hw from room to room, later ones from earlier ones.

mapping knows no torch, Lava's interpreter loads none.
"""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ep_hw
import mapping
import simulators

FOLDERS = {module.__name__: Path(module.__file__).parent for module in (ep_hw, simulators, mapping)}
FORBIDDEN = {"mapping": {"simulators", "ep_hw", "torch", "torchvision", "lava"}, "simulators": {"ep_hw"},
             "ep_hw": {"lava"}}
ROOMS = ("threads", "data", "networks", "threats", "versions", "analysis", "evaluation", "report", "learning",
         "diagnosis", "measurements", "studies", "workflow", "demo", "cli")   # from below
LOOSE = {"__init__", "workflow", "demo", "threads", "versions"}   # files in no room: the door and at most four


def imported(path: Path) -> set[str]:
    """Everything that a file imports, anywhere in it, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(package: str) -> list[Path]:
    found = sorted(FOLDERS[package].rglob("*.py"))
    assert len(found) > 3
    return found


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(path)}


def upward(path: Path, room: str) -> set[str]:
    """What a file of a room imports from rooms above it."""
    above = ROOMS[ROOMS.index(room) + 1:]
    return {name for name in imported(path) if name.startswith("ep_hw.") and name.split(".")[1] in above}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    wrong = {str(f): bad for f in files(package) if (bad := packages(f) & FORBIDDEN[package])}
    assert not wrong


def test_rooms_import_from_those_below_them():
    places = {f: f.relative_to(FOLDERS["ep_hw"]).with_suffix("").parts[0] for f in files("ep_hw")}
    assert set(places.values()) == {*ROOMS, "__init__"}, "a new room takes its place in the order above"
    wrong = {str(f): bad for f, room in places.items() if room != "__init__" and (bad := upward(f, room))}
    assert not wrong


def test_new_files_go_into_rooms():
    assert {f.stem for f in files("ep_hw") if f.parent == FOLDERS["ep_hw"]} == LOOSE


def test_no_two_files_import_each_other():
    """Neither directly nor through others; TopologicalSorter raises CycleError."""
    modules = {".".join(f.relative_to(folder.parent).with_suffix("").parts): f
               for package, folder in FOLDERS.items() for f in files(package)}
    graph = {name: {known for got in imported(f) for known in (got, got.rpartition(".")[0]) if known in modules}
             for name, f in modules.items()}
    assert len(list(TopologicalSorter(graph).static_order())) == len(modules)


def test_the_checks_would_see_a_forbidden_import(tmp_path):
    (tmp_path / "planted.py").write_text("def f():\n    from ep_hw.data import load_data\n")
    assert packages(tmp_path / "planted.py") & FORBIDDEN["simulators"]
    assert upward(tmp_path / "planted.py", "threads") == {"ep_hw.data.load_data"}
    assert not upward(tmp_path / "planted.py", "networks")


@pytest.mark.parametrize("module", ["mapping", "simulators", "ep_hw"])
def test_importing_a_package_loads_no_torch(module):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
