"""The uncertainty exponent: how the chance that a perturbation changes a prediction grows with its size.

    f(eps) = P[prediction(x + eps v) != prediction(x)],    v uniform on the unit l2 sphere;    f ~ C eps^alpha   (1)

alpha = 1 where classes are parted by smooth boundaries; less where boundaries are fractal, alpha = N - D for a boundary
of dimension D among N: then smaller perturbations help an attacker more than a smooth picture says.
C and alpha maximise the likelihood of the binomial counts at sizes where f stays below `SMALL` and at least `FEWEST`
predictions change; the interval is a bootstrap over images. Source: Grebogi, McDonald, Ott and Yorke 1983.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import optimize

from ep_hw.analysis.statistics import LEVEL
from ep_hw.data.splits import Split
from ep_hw.measurements.grid import rising
from mapping.errors import Refusal
from mapping.program import Table
from simulators.machine import Machine

SIZES = tuple(float(size) for size in np.geomspace(0.1, 6.4, 7).round(3))
SMALL = 0.3   # chance up to which equation (1) is fitted: it cannot hold near 1
FEWEST = 10   # changes from which a size is fitted: fewer say little, and resamples of them nothing
RESAMPLES = 400


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """One machine on the images.

    Attributes:
        sizes: eps, rising.
        changed: (images, sizes) int, draws that changed the prediction, of `draws` each.
        alpha, low, high: the exponent and its interval; None where too few predictions change to fit it.
    """

    machine: str
    sizes: tuple[float, ...]
    draws: int
    changed: np.ndarray
    alpha: float | None
    low: float | None
    high: float | None

    def rows(self) -> list[dict]:
        """A row a size, plain values."""
        return [{"machine": self.machine, "size": size, "changed": float(share), "images": len(self.changed),
                 "draws": self.draws, "alpha": self.alpha, "alpha_low": self.low, "alpha_high": self.high}
                for size, share in zip(self.sizes, self.changed.mean(0) / self.draws)]


def measure_uncertainty(machine: Machine, split: Split, sizes: Sequence[float], draws: int, seed: int) -> Uncertainty:
    """Count changed predictions at every size, and fit equation (1).

    Args:
        sizes: eps in l2, units of [0, 1] pixels; perturbed images are clipped to [0, 1].
        draws: random directions an image and size.
        seed: of the directions and of the bootstrap.

    Raises:
        Refusal: from `check_quiet` or `check_sizes`.
    """
    check_quiet(machine.name, not machine.deterministic)
    sizes, generator = check_sizes(sizes), torch.Generator().manual_seed(seed)
    before = machine.relax(split.images).prediction
    changed = np.zeros((len(split), len(sizes)), int)
    for _ in range(draws):
        towards = torch.randn(split.images.shape, generator=generator)
        towards /= towards.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        for n, size in enumerate(sizes):
            moved = (split.images + size * towards).clamp(0, 1)
            changed[:, n] += (machine.relax(moved).prediction != before).numpy()
    alpha, low, high = exponent(np.array(sizes), changed, draws, np.random.default_rng(seed))
    return Uncertainty(machine.name, sizes, draws, changed, alpha, low, high)


def check_sizes(sizes: Iterable[float]) -> tuple[float, ...]:
    """Sizes of perturbations as `rising` has them."""
    return rising(sizes, "size", "--size", "leave it out")


def check_quiet(machine: str, noisy: bool):
    """Refuse a machine whose predictions change by themselves."""
    if noisy:
        raise Refusal("predictions change without any perturbation", where="uncertainty", got=machine,
                      allowed="machines without fresh noise", remedy="take the rung before its read noise")


def exponent(sizes: np.ndarray, changed: np.ndarray, draws: int,
             rng: np.random.Generator) -> tuple[float | None, float | None, float | None]:
    """alpha of equation (1) with its interval over images; None thrice with fewer than two sizes to fit.

    Args:
        sizes: (S,).
        changed: (images, S) counts of `draws`.
    """
    share = changed.mean(0) / draws
    fitted = (changed.sum(0) >= FEWEST) & (share < SMALL)
    if fitted.sum() < 2:
        return None, None, None
    sizes, changed = np.log(sizes[fitted]), changed[:, fitted]
    alpha = _fit(sizes, changed.sum(0), draws * len(changed))
    resampled = [_fit(sizes, changed[rng.integers(0, len(changed), len(changed))].sum(0), draws * len(changed))
                 for _ in range(RESAMPLES)]
    low, high = np.quantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return alpha, float(low), float(high)


def _fit(log_sizes: np.ndarray, counts: np.ndarray, n: int) -> float:
    """alpha of largest likelihood: counts ~ Binomial(n, C eps^alpha)."""
    def cost(line: np.ndarray) -> float:
        chance = np.exp(np.clip(line[0] + line[1] * log_sizes, -700, -1e-9))
        return -(counts * np.log(chance) + (n - counts) * np.log1p(-chance)).sum() / n

    start = np.polyfit(log_sizes, np.log((counts + 0.5) / (n + 1)), 1)[::-1]
    return float(optimize.minimize(cost, start, method="Nelder-Mead").x[1])


def uncertainty_table(curves: Sequence[Uncertainty]) -> Table:
    """A line a machine."""
    rows = [(u.machine, len(u.changed), u.draws, "too few changes" if u.alpha is None else f"{u.alpha:.2f}",
             "" if u.alpha is None else f"{u.low:.2f} to {u.high:.2f}",
             ", ".join(f"{row['changed']:.3f} @ {row['size']:g}" for row in u.rows())) for u in curves]
    note = "alpha: f(eps) ~ eps^alpha; 1 for smooth boundaries between classes, less for fractal ones."
    return Table("chance that a random perturbation changes the prediction",
                 ("machine", "images", "draws", "alpha", "95 %", "changed @ size (l2)"), tuple(rows), (note,))
