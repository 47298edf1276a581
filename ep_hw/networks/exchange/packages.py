"""Packages of other formats, which only exporting needs."""

from importlib import import_module
from types import ModuleType

from mapping.errors import Refusal


def needed(name: str) -> ModuleType:
    """A package.

    Raises:
        Refusal: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise Refusal("a package is missing", where=f"--to {name}", got=f"no {name}", allowed=f"{name} installed",
                      remedy="pip install 'ep-hw[export]'") from None
