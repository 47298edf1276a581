"""Definitions that a user makes again: the cell of a notebook runs more than once."""

from collections.abc import Callable


def is_again(new: Callable, old: Callable) -> bool:
    """Whether a function or class is another one made again: by the same name in the same notebook or session.

    What a module defines is there once; two of one name are two things.
    """
    return new is old or (new.__module__ == old.__module__ == "__main__" and new.__qualname__ == old.__qualname__)
