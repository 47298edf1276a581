"""Expectation over a machine's noise: how many gradients an attacker must average before more say nothing new.

    g_n = (1/n) sum_i dL/dx with fresh noise i,    cos(g_n, g_N) -> 1 as n grows, N >> n                       (1)

Source: Athalye et al. 2018 (expectation over transformation).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ep_hw.analysis.statistics import median_interval, wilson
from ep_hw.data.splits import Split
from ep_hw.threats.attacks import PGD, Unrolled, judge
from mapping.errors import Refusal
from mapping.program import Table
from simulators.machine import Machine

DRAWS = (1, 5, 20)
MANY = 5    # times the largest n: draws of the yardstick
VOTES = 5


@dataclass(frozen=True, eq=False)
class EOTPoint:
    """One number of draws.

    Attributes:
        cosine: (B,), of g_n to g_N at the clean images.
        correct: (B,) bool, by majority after the attack.
    """

    machine: str
    eps: float
    draws: int
    cosine: torch.Tensor
    correct: torch.Tensor

    def row(self) -> dict:
        """Plain values: median cosine and robust accuracy, each with its interval."""
        n, right = len(self.correct), int(self.correct.sum())
        (low, high), (least, most) = wilson(right, n), median_interval(self.cosine)
        return {"machine": self.machine, "eps": self.eps, "draws": self.draws, "images": n,
                "cosine": float(self.cosine.double().quantile(0.5)), "cosine_low": least, "cosine_high": most,
                "accuracy": right / n, "ci_low": low, "ci_high": high}


def check_noisy(machine: str, noisy: bool):
    """Refuse a machine without fresh noise: all its gradients are the same."""
    if not noisy:
        raise Refusal("there is no noise to average over", where="eot", got=machine, allowed="machines with read noise",
                      remedy="choose crossbar:pcm, or another with read noise")


def measure_eot(machine: Machine, split: Split, eps: float, draws: Iterable[int], gradient: Unrolled, iterations: int,
                seed: int) -> Iterator[EOTPoint]:
    """Cosine (1) and accuracy under PGD l2, for every number of draws, rising.

    Args:
        gradient: that is averaged.
        iterations: of PGD.
        seed: of the noise; the yardstick draws its own.

    Raises:
        Refusal: from `check_noisy`.
    """
    check_noisy(machine.name, not machine.deterministic)
    draws, generator = sorted(set(draws)), torch.Generator().manual_seed(seed)
    truth = gradient(machine, split.images, split.labels, generator, MANY * draws[-1])
    for n in draws:
        mean = gradient(machine, split.images, split.labels, generator, n)
        attacked = PGD("l2", eps, gradient, iterations, n).run(machine, split.images, split.labels, generator).images
        wrong, _ = judge(machine, attacked, split.labels, VOTES, generator)
        yield EOTPoint(machine.name, eps, n, F.cosine_similarity(mean.flatten(1), truth.flatten(1)), ~wrong)


def eot_table(rows: list[dict]) -> Table:
    """A line a number of draws."""
    lines = tuple((row["draws"], f"{row['cosine']:.3f}", f"{row['cosine_low']:.3f} to {row['cosine_high']:.3f}",
                   f"{row['accuracy']:.3f}", f"{row['ci_low']:.3f} to {row['ci_high']:.3f}") for row in rows)
    note = (f"{rows[0]['images']} images. Cosine, median over images, to a mean over {MANY * rows[-1]['draws']} draws; "
            f"accuracy by majority over {VOTES} reads.")
    return Table(f"{rows[0]['machine']}: gradients averaged against pgd_l2@{rows[0]['eps']:g}",
                 ("draws", "cosine", "95 %", "accuracy", "95 %"), lines, (note,))
