"""A door: where something from outside comes in, and how it is tried."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import numpy as np
import torch
from pydantic import BaseModel

from tests.fuzz.edits import Edit, Edited, Files, lay_out


class Door(ABC):
    """A kind of input.

    Attributes:
        name: for the table. edits: what is done to it, each as often as it is named.
        forgeries: where checksums vouch for it, what is done before they are made to fit: half of the cases.
    """

    name: str
    edits: Sequence[Edit]
    forgeries: Sequence[Edit] = ()

    @abstractmethod
    def make(self) -> list[Files]:
        """Good inputs."""

    @abstractmethod
    def open(self, folder: Path) -> object:
        """Read what lies in a folder, by the project's own reader."""

    def meaning(self, opened) -> str:
        """A digest of everything that was read."""
        return digest(opened)

    def use(self, opened):  # noqa: B027 - of most inputs nothing more is asked
        """Do with what was read what comes next: it may be refused, and must not fail otherwise."""

    @cached_property
    def good(self) -> list[tuple[Files, str]]:
        """Good inputs and what they mean."""
        return [(files, self._meant(files)) for files in self.make()]

    def case(self, seed: int, number: int) -> "Case":
        """The case of that number: the same seed gives the same case."""
        rng, forged = Random(f"{self.name} {seed} {number}"), bool(self.forgeries) and number % 2 == 1
        files, expected = rng.choice(self.good)
        edited = rng.choice(self.forgeries if forged else self.edits)(rng, files)
        return Case(self, seed, number, self._vouched(edited) if forged else edited, expected)

    def resealed(self, files: Files) -> Files:
        """Files under checksums that fit them. Raises what parsers do where nothing can be read."""
        return files

    def _vouched(self, edited: Edited) -> Edited:
        """A legal other input, if its values are in range; the edit as it is where it cannot be made one."""
        with suppress(KeyError, TypeError, ValueError, AttributeError, RecursionError):
            return Edited(f"{edited.what}, resealed", self.resealed(edited.files), strict=False)
        return edited

    def _meant(self, files: Files) -> str:
        with TemporaryDirectory() as scratch:
            lay_out(files, Path(scratch))
            return self.meaning(self.open(Path(scratch)))


@dataclass(frozen=True, eq=False)
class Case:
    """An edited input, and what it meant before."""

    door: Door
    seed: int
    number: int
    edited: Edited
    expected: str


def digest(thing) -> str:
    """sha256 over an object's type, fields, items, numbers and bytes, however deep."""
    content = hashlib.sha256()
    _feed(thing, content)
    return content.hexdigest()


def _feed(thing, content):
    if isinstance(thing, torch.Tensor):
        thing = thing.detach().cpu().numpy()
    if isinstance(thing, np.ndarray):
        content.update(f"array {thing.dtype} {thing.shape}".encode() + np.ascontiguousarray(thing).tobytes())
    elif isinstance(thing, BaseModel):
        _feed((type(thing).__name__, thing.model_dump()), content)
    elif is_dataclass(thing):
        _feed((type(thing).__name__, {f.name: getattr(thing, f.name) for f in fields(thing)}), content)
    elif isinstance(thing, dict):
        _feed(sorted(((repr(key), value) for key, value in thing.items()), key=lambda item: item[0]), content)
    elif isinstance(thing, (list, tuple)):
        content.update(f"{len(thing)} items".encode())
        for item in thing:
            _feed(item, content)
    else:
        content.update(f"{type(thing).__name__} {thing!r}\n".encode())
