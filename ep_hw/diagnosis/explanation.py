"""The answer of `why`: a verdict first, then the numbers that it follows from."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from torch import Tensor

import simulators
from ep_hw.diagnosis.contributions import Contribution, Window, contribution_table, contributions, window_of
from ep_hw.diagnosis.divergence import Divergence, compare
from ep_hw.diagnosis.expectations import examine
from ep_hw.diagnosis.figure import draw_gaps
from ep_hw.diagnosis.finding import Finding, Scene, finding_table
from ep_hw.evaluation.rungs import Step, ladder, path
from ep_hw.threads import threads
from mapping.files import write_atomically
from mapping.graph import EPGraph
from mapping.program import Program, Table
from simulators.machine import Machine


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where two machines diverge and why.

    Attributes:
        divergence: of the two, step by step.
        contributions: of each rung on the path from the first machine to the second.
        findings: of all rungs.
        noisy: one of the machines compared has read noise.
    """

    divergence: Divergence
    contributions: list[Contribution]
    findings: list[Finding]
    noisy: bool

    @property
    def faults(self) -> list[Finding]:
        """Findings beyond their allowance, those of the first rungs first."""
        return [f for f in self.findings if f.fault]

    def sentence(self) -> str:
        """The verdict: faults first, then where the machines diverge and which cause explains it."""
        verdict = [f"FAULT: {f.sentence()}." for f in self.faults[:1]]
        if len(self.faults) > 1:
            verdict.append(f"{len(self.faults) - 1} more in the table.")
        verdict.append(self.divergence.sentence())
        if self.divergence.place and self.contributions:
            largest = max(self.contributions, key=lambda c: c.share)
            layer = self.divergence.layers[self.divergence.place[1]]
            verdict.append(f"The largest part of the gap in {layer} is {largest.cause} ({largest.share:.0%}).")
        if not self.faults and self.findings:
            verdict.append("Every rung does what its cause may do.")
        if self.noisy:
            verdict.append("Read noise is paired: machines that read alike see the same noise.")
        return " ".join(verdict)

    def tables(self) -> list[Table]:
        """Layers, rungs and findings."""
        layer = self.divergence.place[1] if self.divergence.place else 0
        tables = [self.divergence.table()]
        if self.contributions:
            tables.append(contribution_table(self.contributions, self.divergence.layers, layer, self.divergence.images))
        return tables + ([finding_table(self.findings)] if self.findings else [])

    def save(self, folder: str | Path):
        """Write why.json, and why.png and why.svg: the gap of each layer against the step. Each whole or not at all.

        Raises:
            Refusal: the folder cannot be written.
        """
        document = {"sentence": self.sentence(), "first": self.divergence.first, "second": self.divergence.second,
                    "parting": self.divergence.place and dict(zip(("step", "layer"), (
                        self.divergence.place[0], self.divergence.layers[self.divergence.place[1]]))),
                    "tolerance": self.divergence.tolerance, "images": self.divergence.images,
                    "disagreements": self.divergence.disagreements, "logits_rmse": self.divergence.logits_rmse,
                    "layers": self.divergence.layers, "gaps": self.divergence.gaps.tolist(),
                    "contributions": [asdict(c) for c in self.contributions],
                    "findings": [asdict(f) for f in self.findings]}
        write_atomically(Path(folder) / "why.json", (json.dumps(document, indent=1) + "\n").encode())
        for kind in ("png", "svg"):
            write_atomically(Path(folder) / f"why.{kind}", draw_gaps(self.divergence, kind))


@threads(1)
def explain(graph: EPGraph, first: Program, second: Program, images: Tensor, *, steps: int = 40,
            tolerance: float = 1e-5, chip: int = 0, seed: int = 0,
            opener: Callable[[Program], Machine] | None = None) -> Explanation:
    """Compare two machines, and every rung between them.

    Args:
        graph: the network as it was lowered.
        first: a program of it.
        second: another one.
        images: (B, C, H, W) in [0, 1].
        steps: time steps over which the two are compared.
        tolerance: gaps up to it, in units of the state, count as equal.
        chip: chip seed.
        seed: of the read noise.
        opener: opens the machine of a program; `simulators.open` on the chip if None.

    Raises:
        Refusal: a machine that is not available here.
    """
    opener = opener or partial(simulators.open, chip_seed=chip)
    walk = path(ladder(first, graph), ladder(second, graph))
    scene = Scene(graph, images, seed)
    with ExitStack() as stack:
        machines = [stack.enter_context(opener(program)) for program in _programs(walk, first, second)]
        divergence = compare(machines[0], machines[-1], images, steps, tolerance=tolerance, seed=seed)
        shares = _contributions(walk, machines, images, divergence, seed)
        findings = [f for step, machine, below in _from_the_reference(walk, machines)
                    for f in examine(step.upper, machine, below, scene)]
    return Explanation(divergence, shares, findings, any(not m.deterministic for m in machines))


def _programs(walk: list[Step], first: Program, second: Program) -> list[Program]:
    return [walk[0].before.program, *(step.after.program for step in walk)] if walk else [first, second]


def _contributions(walk: list[Step], machines: list[Machine], images: Tensor, divergence: Divergence,
                   seed: int) -> list[Contribution]:
    """From the sweep in which the machines diverge or, where no rung adds to that sweep, from the start."""
    if not walk:
        return []
    layer = divergence.place[1] if divergence.place else 0
    window = window_of(divergence, machines[0], images, seed)
    rows = contributions(walk, machines, images, window, layer, seed)
    if window.start and not any(row.gaps[layer] for row in rows):
        rows = contributions(walk, machines, images, Window(0, window.start + window.steps, None), layer, seed)
    return rows


def _from_the_reference(walk: list[Step], machines: list[Machine]) -> list[tuple[Step, Machine, Machine]]:
    """Each step with the machine of its rung and that of the rung below; each ladder begins at the reference."""
    undone = [(step, *pair) for step, pair in zip(walk, pairwise(machines)) if step.upper is step.before]
    done = [(step, *pair[::-1]) for step, pair in zip(walk, pairwise(machines)) if step.upper is step.after]
    return undone[::-1] + done
