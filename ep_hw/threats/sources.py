"""The files that a user's code is in: where a function or class stands, and what that file imports of the user's.

Imports count wherever they stand in a file, those of `importlib.import_module` where their name stands there too.

Modules of Python, of this project and of installed packages have versions of their own and are left out; of a package
that holds the code itself all files count.
"""

import ast
import hashlib
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path

IMPORTERS = ("import_module", "__import__")
PROJECT = ("ep_hw", "simulators", "mapping", "torch")   # whose versions are in keys


@cache
def sources(file: str) -> tuple[Path, ...]:
    """A file and all that it imports, and that these import, in the order of their paths after the file itself."""
    found: set[Path] = set()
    waiting = [Path(file).resolve(), *_package(Path(file).resolve())]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += [other for name in _imported(path) for other in _files(name, path)]
    first = Path(file).resolve()
    return (first, *sorted(found - {first}))


@cache
def digest(file: str) -> str:
    """sha256 of a file, and of what it imports where that is anything."""
    first, *others = sources(file)
    content = hashlib.sha256(first.read_bytes())
    for path in others:
        content.update(f"\n{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}".encode())
    return content.hexdigest()


def _package(path: Path) -> list[Path]:
    """All files of the package that a file is in; none where it is in none."""
    folders = list(takewhile(lambda folder: (folder / "__init__.py").is_file(), path.parents))
    return [file.resolve() for file in folders[-1].rglob("*.py")] if folders else []


def _imported(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports anywhere in it, without those of its own package."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):   # no Python source
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and node.args and _called(node.func) in IMPORTERS:
            named = node.args[0]
            if isinstance(named, ast.Constant) and isinstance(named.value, str):
                yield named.value.partition(".")[0]


def _called(function: ast.expr) -> str:
    """The last name of what is called; empty where it has none."""
    return getattr(function, "attr", getattr(function, "id", ""))


def _files(name: str, importer: Path) -> list[Path]:
    """The files of a module or package of the user's; none of any other."""
    place = _place(name, importer.parent)
    if name in (*PROJECT, *sys.stdlib_module_names) or place is None:
        return []
    folder = place if place.is_dir() else place.parent
    if _is_installed(place) and folder != importer.parent:
        return []
    return sorted(path.resolve() for path in place.rglob("*.py")) if place.is_dir() else [place]


def _place(name: str, beside: Path) -> Path | None:
    """The file of a module or the folder of a package in Python: found as an import finds it, or else in a folder."""
    try:
        spec = getattr(sys.modules.get(name), "__spec__", None) or find_spec(name)
    except (ImportError, ValueError):
        spec = None
    spec = spec or PathFinder.find_spec(name, [str(beside)])
    if spec is None:
        return None
    if folders := spec.submodule_search_locations:
        return Path(next(iter(folders))).resolve()
    return Path(spec.origin).resolve() if spec.origin and spec.origin.endswith(".py") else None


def _is_installed(path: Path) -> bool:
    places = {Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not places.isdisjoint(path.parents)
