"""How sure a measured accuracy is: intervals over images and chips, paired tests, and what a sample can show.

    Wilson:      (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)                             (1)
    Student:     m -+ t_{k-1} s / sqrt(k)                                                              (2)
    McNemar:     p = min(1, 2 P[Binomial(b + c, 1/2) <= min(b, c)])                                     (3)
    Bonett-Price: d' -+ z sqrt((b' + c' - d'^2) / (n + 2)),  b' = (b+1)/(n+2), c' = (c+1)/(n+2), d' = c' - b'   (4)
    detectable:  delta = (z_level + z_power) sqrt(psi / n),  psi >= delta                               (5)
    Newcombe:    low = d - sqrt((p2 - l2)^2 + (u1 - p1)^2),  high = d + sqrt((u2 - p2)^2 + (p1 - l1)^2)  (6)
    median:      [x_(k), x_(n+1-k)],  k = largest with P[Binomial(n, 1/2) < k] <= (1 - level)/2                 (7)
    any size:    m' -+ z sqrt(v' / (n + 2)),  m' and v' mean and variance of x_1 .. x_n, +1, -1                 (8)
    Welch:       m1 - m2 -+ t_f sqrt(e1 + e2),  e = s^2 / k,  f = (e1 + e2)^2 / (e1^2/(k1-1) + e2^2/(k2-1))     (9)

p accuracy, n images, m and s mean and standard deviation over k chips or seeds, z and t two-sided quantiles;
b, c images that only the first or only the second of two classifiers gets right, psi = (b + c) / n; d = p2 - p1 the
difference of two accuracies with Wilson intervals [l1, u1] and [l2, u2]; x_(k) the k-th smallest of n values x_i.
Of differences x_i that are -1, 0 or 1, (8) is (4).

Sources: Wilson 1927 (1); McNemar 1947, exact form (3); Bonett and Price 2012 (4); Connor 1987 (5); Newcombe 1998 (6);
Conover 1999, section 3.2 (7); Welch 1947 (9).
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

LEVEL = 0.95
POWER = 0.8


class Interval(NamedTuple):
    """Confidence interval, low <= high, of an accuracy or a difference of two; a fraction, not points."""

    low: float
    high: float


def wilson(correct: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson score interval of an accuracy over n images, `analysis.statistics (1)`.

    Args:
        correct: images classified correctly, 0 to n.

    Raises:
        ValueError: n < 1, or `correct` outside 0 to n.
    """
    if not 0 <= correct <= n or n < 1:
        raise ValueError(f"k = {correct} correct of n = {n} images")
    p, z = correct / n, _z(level)
    width = 2 * (n + z**2)
    center, half = (2 * n * p + z**2) / width, z / width * math.sqrt(4 * n * p * (1 - p) + z**2)
    return Interval(0.0 if correct == 0 else center - half, 1.0 if correct == n else center + half)


def student(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Student interval of the mean over chips or seeds, `analysis.statistics (2)`.

    Args:
        values: (k,), k >= 2, one number a chip or seed.

    Raises:
        ValueError: fewer than two values have no spread to speak of.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"a Student interval needs a list of at least two values, got shape {values.shape}")
    mean = float(values.mean())
    half = special.stdtrit(len(values) - 1, (1 + level) / 2) * values.std(ddof=1) / math.sqrt(len(values))
    return Interval(float(mean - half), float(mean + half))


def welch(first: ArrayLike, second: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean of the first minus that of the second over seeds that do not pair up, `analysis.statistics (9)`.

    Args:
        first: (k1,), two or more, one number a seed.
        second: (k2,), likewise.
    """
    first, second = (np.asarray(values, dtype=float) for values in (first, second))
    errors = [values.var(ddof=1) / len(values) for values in (first, second)]
    difference, error = float(first.mean() - second.mean()), math.sqrt(sum(errors))
    if not error:
        return Interval(difference, difference)
    freedom = sum(errors)**2 / sum(e**2 / (len(values) - 1) for e, values in zip(errors, (first, second)))
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    return Interval(difference - half, difference + half)


def median_interval(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Interval of the median over images whatever their distribution, `analysis.statistics (7)`.

    Args:
        values: (n,), n >= 1, one number an image. Fewer than six span no such interval: it is then their whole range.
    """
    from scipy import stats  # takes long to load, and most commands need none of it

    values = np.sort(np.asarray(values, dtype=float))
    k = max(int(stats.binom.ppf((1 - level) / 2, len(values), 0.5)), 1)
    return Interval(float(values[k - 1]), float(values[-k]))


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided p of the exact McNemar test, `analysis.statistics (3)`: could both classifiers be equally accurate?

    Args:
        first_only: images that the first classifier gets right and the second wrong.
        second_only: the reverse.

    Returns:
        p in (0, 1]; 1 where the two never disagree.
    """
    from scipy import stats  # see `median_interval`

    discordant = first_only + second_only
    return float(stats.binomtest(first_only, discordant).pvalue) if discordant else 1.0


def paired_interval(first_only: float, second_only: float, n: int, level: float = LEVEL) -> Interval:
    """Accuracy of the second classifier minus the first's on the same n images, `analysis.statistics (4)`.

    Args:
        first_only: b. Where only b + c <= S is known, b = (S - d n)/2 and c = (S + d n)/2 for an observed difference
            d give an interval that is too wide, never too narrow.
        second_only: c.
        n: images.

    Returns:
        An interval within [-1, 1] that has width even for b = c = 0.
    """
    b, c = (first_only + 1) / (n + 2), (second_only + 1) / (n + 2)
    half = _z(level) * math.sqrt((b + c - (c - b) ** 2) / (n + 2))
    return Interval(max(-1.0, c - b - half), min(1.0, c - b + half))


def difference_interval(differences: ArrayLike, level: float = LEVEL) -> Interval:
    """Mean over images of differences that may have any size, `analysis.statistics (8)`.

    Args:
        differences: (n,), n >= 1, one number an image: of more than two machines, or averaged over chips.

    Returns:
        An interval that has width even where all differences are 0.
    """
    padded = np.concatenate([np.asarray(differences, dtype=float), [1.0, -1.0]])
    half = _z(level) * math.sqrt(padded.var() / len(padded))
    return Interval(float(padded.mean() - half), float(padded.mean() + half))


def unpaired_interval(first_correct: int, first_n: int, second_correct: int, second_n: int,
                      level: float = LEVEL) -> Interval:
    """Accuracy of the second classifier minus the first's where their images do not pair up, `analysis.statistics (6)`.

    For machines attacked each with its own adversarial images: where both err on the same images more often than
    chance, the interval is too wide, never too narrow.
    """
    p1, p2 = first_correct / first_n, second_correct / second_n
    (l1, u1), (l2, u2) = wilson(first_correct, first_n, level), wilson(second_correct, second_n, level)
    return Interval(p2 - p1 - math.hypot(p2 - l2, u1 - p1), p2 - p1 + math.hypot(u2 - p2, p1 - l1))


def paired_bootstrap(first: ArrayLike, second: ArrayLike, rng: np.random.Generator, resamples: int = 10_000,
                     level: float = LEVEL) -> Interval:
    """Percentile bootstrap, over images, of the mean of second - first.

    A resample of n images is a multinomial draw of how often each distinct difference occurs, so the cost does not
    grow with n.

    Args:
        first: (n,), correctness of each image (booleans, or means over chips in [0, 1]).
        second: (n,), likewise of the other classifier.
        rng: numpy generator; the same state gives the same interval.
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError(f"paired arrays of one length are needed, got shapes {first.shape} and {second.shape}")
    values, counts = np.unique(second - first, return_counts=True)
    means = rng.multinomial(len(first), counts / len(first), size=resamples) @ values / len(first)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def smallest_detectable(n: int, discordance: float | None = None, level: float = LEVEL, power: float = POWER) -> float:
    """Smallest accuracy difference that a paired test on n images shows with the power, `analysis.statistics (5)`.

    Args:
        discordance: psi, the fraction of images on which exactly one of the two is right. A difference delta needs
            psi >= delta; None takes that best case, psi = delta, where delta = (z_level + z_power)^2 / n.

    Returns:
        delta in (0, 1].
    """
    z = _z(level) + float(special.ndtri(power))
    best = z * z / n
    return min(1.0, z * math.sqrt(max(discordance or 0.0, best) / n))


def _z(level: float) -> float:
    return float(special.ndtri((1 + level) / 2))
