"""The answer of `why`: the verdict first, then the numbers it rests on."""

import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import simulators
from ep_hw.diagnosis.contributions import Contribution, Window, contribution_table, contributions, window_of
from ep_hw.diagnosis.expectations import examine
from ep_hw.diagnosis.figure import draw_gaps
from ep_hw.diagnosis.finding import Finding, Scene, finding_table
from ep_hw.diagnosis.parting import Parting, compare
from ep_hw.evaluation.rungs import Step, ladder, path
from ep_hw.threads import threads
from mapping.files import write_atomically
from mapping.graph import EPGraph
from mapping.program import Program, Table


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where two machines part and why.

    Attributes:
        parting: first against second, step by step. contributions: a step of the path each, from first to second.
        findings: what each rung's cause did against what it may do. noisy: read noise is part of a machine compared.
    """

    parting: Parting
    contributions: list[Contribution]
    findings: list[Finding]
    noisy: bool

    @property
    def faults(self) -> list[Finding]:
        """Findings beyond what their cause may do, from the reference upwards."""
        return [f for f in self.findings if f.fault]

    def sentence(self) -> str:
        """The verdict: faults first, then where the machines part and what explains it."""
        verdict = [f"FAULT: {f.sentence()}." for f in self.faults[:1]]
        if len(self.faults) > 1:
            verdict.append(f"{len(self.faults) - 1} more in the table.")
        verdict.append(self.parting.sentence())
        if self.parting.place and self.contributions:
            largest = max(self.contributions, key=lambda c: c.share)
            layer = self.parting.layers[self.parting.place[1]]
            verdict.append(f"The largest part of the gap in {layer} is {largest.cause} ({largest.share:.0%}).")
        if not self.faults and self.findings:
            verdict.append("Every rung does what its cause may do.")
        if self.noisy:
            verdict.append("Read noise is paired: machines that read alike draw the same noise.")
        return " ".join(verdict)

    def tables(self) -> list[Table]:
        """Layers, rungs and findings."""
        layer = self.parting.place[1] if self.parting.place else 0
        tables = [self.parting.table()]
        if self.contributions:
            tables.append(contribution_table(self.contributions, self.parting.layers, layer, self.parting.images))
        return tables + ([finding_table(self.findings)] if self.findings else [])

    def save(self, folder: str | Path):
        """Write why.json, and why.png and why.svg: the gap of each layer against the step. Each whole or not at all.

        Raises:
            Refusal: the folder cannot be written.
        """
        document = {"sentence": self.sentence(), "first": self.parting.first, "second": self.parting.second,
                    "parting": self.parting.place and dict(zip(("step", "layer"), (
                        self.parting.place[0], self.parting.layers[self.parting.place[1]]))),
                    "tolerance": self.parting.tolerance, "images": self.parting.images,
                    "disagreements": self.parting.disagreements, "logits_rmse": self.parting.logits_rmse,
                    "layers": self.parting.layers, "gaps": self.parting.gaps.tolist(),
                    "contributions": [asdict(c) for c in self.contributions],
                    "findings": [asdict(f) for f in self.findings]}
        write_atomically(Path(folder) / "why.json", (json.dumps(document, indent=1) + "\n").encode())
        for kind in ("png", "svg"):
            write_atomically(Path(folder) / f"why.{kind}", draw_gaps(self.parting, kind))


@threads(1)
def explain(graph: EPGraph, first: Program, second: Program, images, *, steps: int = 40, tolerance: float = 1e-5,
            chip: int = 0, seed: int = 0, opener=None) -> Explanation:
    """Compare two machines, and every rung between them.

    Args:
        graph: the network as it was lowered. first, second: programs of it.
        images: (B, C, H, W) in [0, 1]. steps: time steps over which the two are compared.
        tolerance: gaps up to it, in units of the state, count as equal.
        chip: chip seed. seed: of the read noise.
        opener: opens the machine of a program; `simulators.open` on the chip if None.

    Raises:
        Refusal: a machine that is not available here.
    """
    opener = opener or partial(simulators.open, chip_seed=chip)
    walk = path(ladder(first, graph), ladder(second, graph))
    scene = Scene(graph, images, seed)
    with ExitStack() as stack:
        machines = [stack.enter_context(opener(program)) for program in _programs(walk, first, second)]
        parting = compare(machines[0], machines[-1], images, steps, tolerance=tolerance, seed=seed)
        shares = _contributions(walk, machines, images, parting, seed)
        findings = [f for step, pair in _upwards(walk, machines) for f in examine(step.upper, *pair, scene)]
    return Explanation(parting, shares, findings, any(not m.deterministic for m in machines))


def _programs(walk: list[Step], first: Program, second: Program) -> list[Program]:
    return [walk[0].before.program, *(step.after.program for step in walk)] if walk else [first, second]


def _contributions(walk, machines, images, parting: Parting, seed: int) -> list[Contribution]:
    """From the sweep in which the machines part or, where what came before matters too, from the very start."""
    if not walk:
        return []
    layer = parting.place[1] if parting.place else 0
    window = window_of(parting, machines[0], images, seed)
    rows = contributions(walk, machines, images, window, layer, seed)
    if window.start and not any(row.gaps[layer] for row in rows):
        rows = contributions(walk, machines, images, Window(0, window.start + window.steps, None), layer, seed)
    return rows


def _upwards(walk: list[Step], machines) -> list[tuple[Step, tuple]]:
    """Steps with their machines (upper, lower), each ladder from the reference upwards."""
    pairs = [(step, (machines[k], machines[k + 1]) if step.upper is step.before else (machines[k + 1], machines[k]))
             for k, step in enumerate(walk)]
    down = [pair for pair in pairs if pair[0].upper is pair[0].before]
    return down[::-1] + pairs[len(down):]
