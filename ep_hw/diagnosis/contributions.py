"""How much each rung adds to the gap: every machine takes the same window of time steps from the same states.

The first machine relaxes to the start of the sweep in which the two diverge; every machine of the path then takes the
window from there. With s_k the states of machine k at the window's end, d_k = s_k - s_{k-1} is the part of rung k,

    s_K - s_0 = sum_k d_k,    share_k = <d_k, s_K - s_0> / |s_K - s_0|^2,    sum_k share_k = 1          (1)
"""

from dataclasses import dataclass

from torch import Tensor

from ep_hw.diagnosis.divergence import Divergence, States, read_noise
from ep_hw.evaluation.rungs import Step
from mapping.program import Table
from simulators.machine import Machine


@dataclass(frozen=True)
class Contribution:
    """One rung's part of the gap.

    Attributes:
        cause: the rung's cause of error.
        before: the machine before the step.
        after: the machine after it.
        gaps: root mean square of d_k in each layer, in units of the state.
        share: `ep_hw.diagnosis.contributions` (1) at the layer where the machines diverge.
        changed: predictions that this rung changes at the end of whole relaxations.
    """

    cause: str
    before: str
    after: str
    gaps: tuple[float, ...]
    share: float
    changed: int


@dataclass(frozen=True, eq=False)
class Window:
    """Where the machines are compared from the same states.

    Attributes:
        start: time steps that the first machine took alone.
        steps: time steps that all machines take.
        states: the first machine's at the start; None for zeros.
    """

    start: int
    steps: int
    states: States | None


def window_of(divergence: Divergence, machine: Machine, images: Tensor, seed: int) -> Window:
    """The sweep in which the machines diverge; the first sweep where they do not.

    Args:
        divergence: of the two machines.
        machine: the first of the two.
        images: that were compared.
        seed: of the read noise.
    """
    period = machine.graph.period
    start = 0 if divergence.place is None else (divergence.place[0] - 1) // period * period
    states = machine.relax(images, start, generator=read_noise(seed)).states if start else None
    return Window(start, period, states)


def contributions(steps: list[Step], machines: list[Machine], images: Tensor, window: Window, layer: int,
                  seed: int) -> list[Contribution]:
    """How much each step of a path adds, from the first machine to the last.

    Args:
        steps: of the path.
        machines: one more than steps.
        images: (B, C, H, W) in [0, 1].
        window: in which they are compared.
        layer: where the machines diverge, from 0.
        seed: of the read noise.
    """
    ends = [m.relax(images, window.steps, states=window.states, generator=read_noise(seed)).states for m in machines]
    predictions = [m.relax(images, generator=read_noise(seed)).prediction for m in machines]
    whole = ends[-1][layer] - ends[0][layer]
    rows = []
    for k, step in enumerate(steps):
        parts = [b - a for a, b in zip(ends[k], ends[k + 1])]
        share = float((parts[layer] * whole).sum() / whole.square().sum()) if whole.any() else 0.0
        rows.append(Contribution(step.cause, step.before.name, step.after.name,
                                 tuple(float(d.square().mean().sqrt()) for d in parts), share,
                                 int((predictions[k] != predictions[k + 1]).sum())))
    return rows


def contribution_table(rows: list[Contribution], layers: tuple[str, ...], layer: int, images: int) -> Table:
    """A row a rung."""
    columns = ("cause", "machine", f"share of the gap in {layers[layer]}", *(f"rms gap, {name}" for name in layers),
               f"changed predictions of {images}")
    return Table("what each rung adds, from the same states", columns, tuple(
        (r.cause, r.after, f"{r.share:.1%}", *(f"{gap:.2e}" for gap in r.gaps), r.changed) for r in rows))
