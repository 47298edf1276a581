"""Attack time against prediction time: how long an attacker unrolls the relaxation, and how long the machine relaxes.

An EP network predicts whenever it is asked. A gradient through few steps sees a network that has not settled, one
through many steps fades: robustness against attack time need not be monotone, so that a claim needs the worst of them.
Source: the paper's section 3.2 and figures 4a (grid) and 4b (accuracy against free-phase steps).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ep_hw.analysis.statistics import wilson
from ep_hw.data.splits import Split
from ep_hw.threats.attacks import PGD, Unrolled
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.program import Table
from simulators.machine import Machine

ATTACK_TIMES = (5, 10, 15, 25, 29, 60, 70)
PREDICTION_STEPS = (5, 10, 20, 40, 60, 100, 200)


@dataclass(frozen=True, eq=False)
class TemporalPoint:
    """Accuracy of one machine under one attack time, at several prediction times.

    Attributes:
        attack_time: T, synchronous iterations that the gradient goes through; 0 for clean images.
        steps: time steps of the machine's own schedule before it predicts.
        correct: (images, len(steps)) bool.
    """

    machine: str
    eps: float
    attack_time: int
    steps: tuple[int, ...]
    correct: torch.Tensor

    def rows(self) -> list[dict]:
        """A row a prediction time, plain values."""
        n = len(self.correct)
        intervals = [wilson(int(column.sum()), n) for column in self.correct.T]
        return [{"machine": self.machine, "eps": self.eps, "attack_time": self.attack_time, "steps": steps,
                 "images": n, "accuracy": float(column.float().mean()), "ci_low": low, "ci_high": high}
                for steps, column, (low, high) in zip(self.steps, self.correct.T, intervals)]


def check_relaxes(graph: EPGraph):
    """Refuse a network that answers in one pass: all its times are one.

    Raises:
        Refusal: it has no feedback.
    """
    if not graph.has_feedback:
        raise Refusal("a network without feedback answers in one pass, which has no times to compare", where="MODEL",
                      got=graph.schedule, allowed="EP networks", remedy="name one, as 'ep-hw models' lists them")


def measure_times(machine: Machine, split: Split, eps: float, times: Sequence[int], steps: Sequence[int],
                  iterations: int, seed: int) -> Iterator[TemporalPoint]:
    """Clean images, then PGD l2 of strength `eps` with each attack time; every point predicted at every step.

    Args:
        machine: the machine under test.
        split: images and labels.
        eps: strength of PGD.
        times: T of `Unrolled`.
        steps: time steps.
        iterations: of PGD.
        seed: of the machine's reads.
    """
    for time in (0, *sorted(set(times))):
        yield measure_time(machine, split, eps, time, tuple(sorted(set(steps))), iterations, seed)


def measure_time(machine: Machine, split: Split, eps: float, time: int, steps: tuple[int, ...], iterations: int,
                 seed: int) -> TemporalPoint:
    """One point of `measure_times`, whose reads no other point changes.

    Args:
        time: of `Unrolled`, or 0 for clean images.
    """
    images = split.images
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, time)).generate_state(1)[0]))
    if time:
        images = PGD("l2", eps, Unrolled(time), iterations).run(machine, images, split.labels, generator).images
    correct = torch.stack([machine.relax(images, n, generator=generator).prediction == split.labels
                           for n in steps], 1)
    return TemporalPoint(machine.name, eps, time, steps, correct)


def worst_over_times(points: Sequence[TemporalPoint]) -> list[float]:
    """For each prediction time the accuracy under the worst attack time for each image."""
    standing = torch.stack([point.correct for point in points if point.attack_time]).all(0)
    return standing.float().mean(0).tolist()


def temporal_table(points: Sequence[TemporalPoint]) -> Table:
    """Rows attack times, columns prediction times, and the worst over attack times image by image."""
    first = points[0]
    rows = [("clean" if p.attack_time == 0 else f"T = {p.attack_time}",
             *(f"{row['accuracy']:.3f}" for row in p.rows())) for p in points]
    rows.append(("worst", *(f"{accuracy:.3f}" for accuracy in worst_over_times(points))))
    title = f"{first.machine}: accuracy under pgd_l2@{first.eps:g}, by attack time and prediction step"
    note = f"{len(first.correct)} images; the worst is taken for each image over all attack times."
    return Table(title, ("attack", *(f"step {n}" for n in first.steps)), tuple(rows), (note,))
