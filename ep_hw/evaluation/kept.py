"""What is measured once and kept in the folder of a run: the same question finds its answer there."""

import hashlib
import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from ep_hw.evaluation.cluster import Cluster, Errand
from ep_hw.evaluation.execution import Run, call_all
from ep_hw.versions import libraries
from mapping.errors import Refusal
from mapping.files import write_atomically
from mapping.sealed import Layout, open_sealed, seal


class Kept(ABC):
    """A measurement and its file.

    Attributes:
        form: of the file.
        folder: where it lies.
    """

    form: ClassVar[str]
    folder: Path

    @property
    @abstractmethod
    def asked(self) -> list:
        """Plain values: everything that decides the outcome, but for the versions of libraries."""

    @property
    @abstractmethod
    def layout(self) -> Layout:
        """Type and shape of each array of the outcome."""

    @abstractmethod
    def compute(self) -> dict[str, np.ndarray]:
        """The outcome."""

    @cached_property
    def key(self) -> str:
        """16 hex digits of the sha256 of what is asked, and with which libraries."""
        return hashlib.sha256(json.dumps([libraries(), *self.asked]).encode()).hexdigest()[:16]

    @property
    def path(self) -> Path:
        return self.folder / f"{self.key}.safetensors"

    def measure(self) -> str:
        """Measure it and write its file; what it is called."""
        write_atomically(self.path, seal(self.form, {}, self.compute()))
        return str(self)

    def done(self) -> bool:
        """Whether its file is there and whole; says so where it is damaged."""
        try:
            return self.path.exists() and bool(self.arrays())
        except Refusal as damage:
            logging.getLogger(__name__).warning("%s: measured again", damage)
            return False

    def arrays(self) -> dict[str, np.ndarray]:
        """What its file holds.

        Raises:
            Refusal: it is damaged.
        """
        return open_sealed(self.path, self.form, "run the same command again").arrays(self.layout)

    def generator(self, purpose: str = "") -> torch.Generator:
        """The same question gives the same numbers for a purpose, with any version of a library."""
        content = hashlib.sha256(json.dumps([*self.asked, purpose]).encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(content[:7], "big"))


def measure_missing(asked: Iterable[Kept], run: Run):
    """Measure what is not done, begun in this order."""
    every = list(asked)
    missing = [one for one in every if not one.done()]
    measured = (_on_cluster(missing, run.cluster) if run.cluster else
                call_all([one.measure for one in missing], run.jobs))
    for finished, name in enumerate(measured, len(every) - len(missing) + 1):
        run.progress(name, finished, len(every))


def _on_cluster(missing: list[Kept], cluster: Cluster) -> Iterator[str]:
    """Measure on a cluster."""
    asked = {one.key: one for one in missing}
    errands = (Errand(name=key, call=partial(_measure_in, one), folder=one.folder, writes=(one.path.name,))
               for key, one in asked.items())
    for errand in cluster.each(errands):
        yield str(asked[errand.name])


def _measure_in(one: Kept, folder: Path):
    replace(one, folder=folder).measure()   # type: ignore[type-var]   # all are dataclasses
