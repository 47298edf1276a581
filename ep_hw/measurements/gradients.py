"""What the image gradients that a machine's own nudged phases give are worth: how often zero, and how well aimed.

The yardstick is the adjoint at the same machine's own free equilibrium, through its straight-through model
(equation (8) of ep_hw.threats.attacks.gradients): it sees no rounding of the nudge's response, and the measured
gradient does.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

import mapping
import simulators
from ep_hw.analysis.statistics import median_interval
from ep_hw.data.splits import Split
from ep_hw.measurements.grid import rising
from ep_hw.threats.attacks.gradients import Adjoint, Gradient, Nudged
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.loihi.integers import LOSSES
from mapping.loihi.program import LoihiProgram
from mapping.program import Program, Table
from mapping.registry import parse
from simulators.machine import Machine

BETAS = (0.01, 0.1, 0.5, 1.0, 2.0)
STATE_BITS = (4, 6, 8, 10)
ITERATIONS = 100   # of the adjoint
ADJOINT_DRAWS = 8   # averaged on noisy machines
BATCH = 100


@dataclass(frozen=True, eq=False)
class GradientPoint:
    """The measured gradient of one machine, loss and strength, image by image.

    Attributes:
        state_bits: None on machines whose states are no integers.
        beta: the strength asked for.
        used: the strength taken, lower where the machine takes no more.
        cosine: (B,), to the adjoint; 0 where either is zero.
        zeros: (B,), fraction of the entries that are zero.
    """

    machine: str
    state_bits: int | None
    loss: str
    beta: float
    used: float
    cosine: torch.Tensor
    zeros: torch.Tensor

    def row(self) -> dict:
        """Plain values: median cosine with its interval, mean fraction of zero entries, images without any gradient."""
        low, high = median_interval(self.cosine)
        return {"machine": self.machine, "state_bits": self.state_bits, "loss": self.loss, "beta": self.beta,
                "beta_used": self.used, "images": len(self.cosine), "cosine": float(self.cosine.double().quantile(0.5)),
                "cosine_low": low, "cosine_high": high, "zero_entries": float(self.zeros.mean()),
                "zero_images": float((self.zeros == 1).float().mean())}


def check_betas(betas: Iterable[float]) -> tuple[float, ...]:
    """Strengths of nudges as `rising` has them."""
    return rising(betas, "strength", "--beta", "both signs are measured: give the magnitude")


def gradient_programs(graph: EPGraph, machines: Sequence[str], state_bits: Sequence[int]) -> list[Program]:
    """The programs to measure: a Loihi machine whose states are integers at each of the state bits, last those proven.

    Args:
        machines: names; one that names its own `state_bits` is taken as it is.
        state_bits: as the user asks; with none, those of `STATE_BITS` below the largest proven.

    Raises:
        Refusal: an unknown machine, state bits that cannot be proven safe, or a network without feedback.
    """
    if not graph.has_feedback:
        raise Refusal("a network without feedback has nothing to nudge", where="MODEL", got=graph.schedule,
                      allowed="EP networks", remedy="name one, as 'ep-hw models' lists them")
    programs = []
    for target in map(parse, machines):
        best = mapping.compile(graph, target)
        bits: list[int] = []
        if isinstance(best, LoihiProgram) and best.target.quantises_states and best.target.state_bits is None:
            bits = sorted(set(state_bits or [b for b in STATE_BITS if b < best.state_bits]))
            programs += [mapping.compile(graph, replace(best.target, state_bits=b)) for b in bits]
        programs += [best] if _state_bits(best) not in bits else []
    return programs


def measure_gradients(program: Program, split: Split, betas: Iterable[float], *, pairs: int = 1, chip: int = 0,
                      seed: int = 0) -> Iterator[GradientPoint]:
    """Measure one program's gradients at the true labels; both losses, every strength.

    Args:
        betas: strengths of the nudge.
        pairs: nudged pairs to average on a noisy machine.
        chip: chip seed.
        seed: of the read noise.
    """
    generator = torch.Generator().manual_seed(seed)
    with simulators.open(program, chip_seed=chip) as machine:
        for loss in LOSSES:
            adjoint = _gradients(Adjoint(ITERATIONS, loss), machine, split, generator, ADJOINT_DRAWS)
            for beta in betas:
                measured = _gradients(Nudged(beta, loss, pairs, free=None), machine, split, generator)
                yield GradientPoint(program.target.shown, _state_bits(program), loss, beta,
                                    min(beta, machine.largest_beta), F.cosine_similarity(measured, adjoint),
                                    (measured == 0).float().mean(1))


def _gradients(gradient: Gradient, machine: Machine, split: Split, generator: torch.Generator,
               draws: int = 1) -> torch.Tensor:
    """(N, pixels) gradient of every image."""
    draws = 1 if machine.deterministic else draws
    return torch.cat([gradient(machine, images, labels, generator, draws).flatten(1)
                      for images, labels in zip(split.images.split(BATCH), split.labels.split(BATCH))])


def _state_bits(program: Program) -> int | None:
    return program.state_bits if isinstance(program, LoihiProgram) and program.target.quantises_states else None


def gradient_table(rows: Sequence[dict]) -> Table:
    """A line a machine, loss and strength, from `GradientPoint.row`."""
    lines = tuple((row["machine"], "" if row["state_bits"] is None else row["state_bits"], row["loss"],
                   f"{row['beta_used']:g}", f"{row['cosine']:.3f}",
                   f"{row['cosine_low']:.3f} to {row['cosine_high']:.3f}", f"{100 * row['zero_entries']:.1f}",
                   f"{100 * row['zero_images']:.1f}") for row in rows)
    columns = ("machine", "state bits", "loss", "beta", "cosine", "95 %", "zero entries, %", "zero images, %")
    note = ("Cosine of the gradient measured by nudging to the adjoint of the same machine, median over images; "
            "a zero gradient counts as 0.")
    return Table(f"measured gradients of {rows[0]['images']} images", columns, lines, (note,))
