"""Sources of noise one at a time, each as strong as costs the same accuracy, and attacks under each.

    |accuracy without noise - accuracy(sigma) - drop| <= TOLERANCE                                          (1)

with sigma found by bisection of its logarithm, on the same draws at every sigma. Attackers know what all machines with
that noise have in common: their images are made on a draw of their own and shown to others.

| source                                  | where   | new at every read | depends on the input                     |
| --------------------------------------- | ------- | ----------------- | ---------------------------------------- |
| additive, read_noise                    | weights | no, yes           | always: inputs are multiplied by weights |
| output_offset, output_noise             | outputs | no, yes           | no                                       |
| gain_error, gain_noise                  | outputs | no, yes           | yes                                      |

Source: Lammie et al., Nat. Commun. 16, 1756 (2025), figure 3.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

import mapping
from ep_hw.data.splits import Split
from ep_hw.evaluation.envelope import FOLDER, Met, Reads
from ep_hw.evaluation.kept import Kept
from ep_hw.evaluation.plan import Plan
from ep_hw.evaluation.stored_attacks import Place, answers, make
from ep_hw.evaluation.suites import Grid
from ep_hw.threats.attacks import AttackSettings
from ep_hw.threats.threat import Threat
from ep_hw.versions import ENVELOPE, code_of
from mapping.program import Program
from mapping.sealed import Layout

SOURCES = {
    "additive": "weight noise, frozen",
    "read_noise": "weight noise, recurrent",
    "output_offset": "output noise, frozen",
    "output_noise": "output noise, recurrent",
    "gain_error": "output noise, frozen, in proportion to the output",
    "gain_noise": "output noise, recurrent, in proportion to the output",
}
MACHINE = "crossbar:generic"   # whose options they are
LEAST, MOST = 1e-4, 1.0        # sigma
TOLERANCE = 0.01               # of accuracy
HALVINGS = 12


def matched(accuracy: Callable[[float], float], wanted: float) -> float | None:
    """`evaluation.matched_noise (1)`: the sigma with the accuracy wanted, or the nearest to it that was tried.

    Args:
        accuracy: under a sigma; falls as it grows.
        wanted: accuracy without noise, less the drop.

    Returns:
        None where even `MOST` leaves more, by more than the tolerance.
    """
    tried, low, high = {MOST: accuracy(MOST) - wanted}, LEAST, MOST
    if tried[MOST] > TOLERANCE:
        return None
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        tried[middle] = left = accuracy(middle) - wanted
        if abs(left) <= TOLERANCE:
            return middle
        low, high = (middle, high) if left > 0 else (low, middle)
    return min(tried, key=lambda sigma: abs(tried[sigma]))


@dataclass(frozen=True, eq=False)
class StoredNoise(Kept):
    """A source of noise at a drop of accuracy, and an attack of its largest effort under it.

    Attributes:
        program: of `MACHINE` without noise.
        source: one of `SOURCES`.
        drop: of accuracy; 0 for no noise.
        grid: of the attack.
        images: that are attacked.
        settings: of the attack, but for its effort.
        repeats: draws of the noise.
        seed: of the evaluation.
        device: that the machines run on.
        folder: see `Kept`.
    """

    form: ClassVar[str] = "ep-hw matched noise 1"
    program: Program
    source: str
    drop: float
    grid: Grid
    images: Split
    settings: AttackSettings
    repeats: int
    seed: int
    device: str
    folder: Path

    @property
    def asked(self) -> list:
        code = {"envelope": ENVELOPE, **code_of([self.program], Threat(self.grid.kind))}
        return [code, self.program.digest(), self.source, self.drop, self.grid.kind, self.grid.strengths,
                self.grid.efforts[-1], self.images.digest, self.settings.model_dump(mode="json"), self.repeats,
                self.seed, self.device]

    @property
    def layout(self) -> Layout:
        shape = self.repeats, len(self.images)
        return {"sigma": ("float64", (1,)), "clean": ("bool", shape),
                "attacked": ("bool", (len(self.grid.strengths), *shape))}

    def compute(self) -> dict[str, np.ndarray]:
        clean = partial(self._right, images=self.images.images)
        sigma = self._sigma(clean)
        attacked = [self._attacked(sigma, strength) if sigma is not None else clean(MOST)
                    for strength in self.grid.strengths]
        found = MOST if sigma is None else sigma
        return {"sigma": np.array([-1.0 if sigma is None else sigma]), "clean": clean(found).numpy(),
                "attacked": torch.stack(attacked).numpy()}

    def _sigma(self, clean: Callable[[float], Tensor]) -> float | None:
        if not self.drop:
            return 0.0
        wanted = clean(0.0).float().mean().item() - self.drop
        return matched(lambda sigma: clean(sigma).float().mean().item(), wanted)

    def _right(self, sigma: float, images: Tensor) -> Tensor:
        """(repeats, N) whether machines with that noise are right: chips where it is frozen, else reads of one."""
        program = self._with(sigma)
        chips = range(self.repeats if program.target.has_chips else 1)
        each = self.repeats // len(chips)
        return torch.cat([self._read(Place(program, chip), images, each) for chip in chips])

    def _read(self, place: Place, images: Tensor, reads: int) -> Tensor:
        with place.open(self.device) as machine:
            return answers(machine, images, self.images.labels, reads, self.generator(f"chip {place.chip}"))

    def _attacked(self, sigma: float, strength: float) -> Tensor:
        with Place(self._with(sigma), self.repeats).open(self.device) as machine:
            images = make(machine, Threat(self.grid.kind, strength), self.grid.efforts[-1], self.images, self.settings,
                          self.generator("attack"))
        return self._right(sigma, images)

    def _with(self, sigma: float) -> Program:
        return replace(self.program, target=self.program.target.having(**{self.source: sigma}))

    def __str__(self):
        return f"{SOURCES[self.source]}, {100 * self.drop:g} points"

    def read(self) -> "Matched":
        """What its file holds.

        Raises:
            Refusal: it is damaged.
        """
        found = self.arrays()
        met = [Met(Threat(self.grid.kind, strength), self.grid.efforts[-1], found["clean"][None], attacked[None])
               for strength, attacked in zip(self.grid.strengths, found["attacked"])]
        sigma = float(found["sigma"][0])
        return Matched(self.source, self.drop, None if sigma < 0 else sigma, found["clean"], met)


@dataclass(frozen=True, eq=False)
class Matched:
    """What a source of noise came to.

    Attributes:
        source: one of `SOURCES`.
        drop: of accuracy that was wanted; 0 for no noise.
        sigma: as strong as that takes; None where even `MOST` costs less.
        clean: (repeats, images) whether clean images are classified rightly under it, or under `MOST`.
        met: the attack by strength; of no meaning where sigma is None.
    """

    source: str
    drop: float
    sigma: float | None
    clean: Reads
    met: list[Met]


def noises_of(plan: Plan, folder: Path) -> list[StoredNoise]:
    """Every source at every drop that a plan asks for, no noise first; none of a network without a graph, or where
    another stands for it on hardware.
    """
    envelope = plan.asked.envelope
    graphs = [program.graph for program in plan.programs.values() if isinstance(program, Program)]
    graph = next((graph for graph in graphs if graph.activity), None)
    if envelope is None or not envelope.drops or graph is None or plan.asked.retrained:
        return []
    program = mapping.compile(graph, MACHINE)
    cases = [("additive", 0.0), *((source, drop) for drop in envelope.drops for source in SOURCES)]
    return [StoredNoise(program, source, drop, envelope.grids[0], plan.images, plan.attacks.settings, envelope.repeats,
                        plan.asked.seed, plan.run.device, folder / FOLDER) for source, drop in cases]
