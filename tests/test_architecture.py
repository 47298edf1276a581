"""Imports go one way: ep_hw -> simulators -> mapping. mapping knows no torch, Lava's interpreter loads none."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ep_hw
import mapping
import simulators

FOLDERS = {module.__name__: Path(module.__file__).parent for module in (ep_hw, simulators, mapping)}
FORBIDDEN = {"mapping": {"simulators", "ep_hw", "torch", "torchvision", "lava"}, "simulators": {"ep_hw"},
             "ep_hw": {"lava"}}


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    files = sorted(FOLDERS[package].rglob("*.py"))
    assert len(files) > 3
    wrong = {str(f): bad for f in files if (bad := imported(f) & FORBIDDEN[package])}
    assert not wrong


def test_the_check_would_see_a_forbidden_import(tmp_path):
    (tmp_path / "planted.py").write_text("def f():\n    from ep_hw.data import load_data\n")
    assert imported(tmp_path / "planted.py") & FORBIDDEN["simulators"]


@pytest.mark.parametrize("module", ["mapping", "simulators", "ep_hw"])
def test_importing_a_package_loads_no_torch(module):
    code = f"import {module}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
