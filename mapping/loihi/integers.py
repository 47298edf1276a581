"""Integer arithmetic that Lava's processes compute and the torch twin repeats: rounding, weights, nudges.

One rounding rule everywhere: round half up, floor(x + 1/2), which for integers is an add and an arithmetic shift.
"""

from typing import Any, TypeVar

import numpy as np

LOSSES = ("cross_entropy", "margin")   # what a nudge may pull towards: see simulators.relaxation.Nudge
ERROR_BITS = 15   # probabilities and errors are counted in units of 2^-15
BETA_BITS = 16    # a nudge's strength is num / 2^16
GAP_BITS = 8      # the exponential is tabulated every 2^-8 ...
_GAP_LIMIT = 16   # ... down to exp(-16), which rounds to 0
EXPONENTIAL = np.floor(2.0**ERROR_BITS * np.exp(-np.arange((_GAP_LIMIT << GAP_BITS) + 1) / 2.0**GAP_BITS) + 0.5)
EXPONENTIAL = EXPONENTIAL.astype(np.int64)
A = TypeVar("A", bound=Any)   # a numpy array or a tensor: this package knows no torch
LARGEST = 2**62   # integer that `round_half_up` gives


def round_half_up(x: np.ndarray | float) -> np.ndarray:
    """floor(x + 1/2) as int64, at most 2^62 in magnitude: what is larger fits no accumulator as 2^62 does not."""
    return np.clip(np.floor(np.asarray(x, np.float64) + 0.5), -LARGEST, LARGEST).astype(np.int64)


def rescale(x: A, shift: int) -> A:
    """int64 array or tensor, below 2^61 in magnitude, times 2^-shift, rounded half up; a negative shift multiplies."""
    shift = min(shift, 62)   # which leaves nothing of x
    return (x + (1 << shift >> 1)) >> shift if shift > 0 else x << -shift


def gap_shift(exponent: int) -> int:
    """Right shift of logits in 2^-exponent to steps of the exponential's table; to the left no farther than its end."""
    return max(exponent - GAP_BITS, -len(EXPONENTIAL).bit_length())


def natural_exponent(weight: np.ndarray, bits: int) -> int:
    """Exponent q of w = W 2^-q: the largest that clips no weight; for one bit the power of two nearest to mean |w|.

    The mean magnitude is the best scale of binary weights in the least squares. Source: Rastegari et al. 2016
    (XNOR-Net), equation (6).
    """
    largest, mean = float(np.abs(weight).max()), float(np.abs(weight, dtype=np.float64).mean())
    if largest == 0:
        return 0
    if bits == 1:
        return -round_to_power(mean)
    limit = 2 ** (bits - 1) - 1
    q = bits - 2 - int(np.frexp(largest)[1])
    while round_half_up(largest * 2.0 ** (q + 1)) <= limit:
        q += 1
    return q


def round_to_power(x: float) -> int:
    """The n for which 2^n is nearest to x > 0; the larger of two."""
    mantissa, exponent = np.frexp(x)
    return int(exponent) - int(mantissa < 0.75)


def quantise(weight: np.ndarray, bits: int, exponent: int) -> np.ndarray:
    """Weights as int8 W of `bits` bits, w = W 2^-exponent.

        W = clip(round(w 2^q), -(2^(bits-1) - 1), 2^(bits-1) - 1),   for one bit W = 1 where w >= 0, else -1    (8)

    A layer without any weight (all zero) stays zero.
    """
    if bits == 1:
        return np.where(weight >= 0, 1, -1).astype(np.int8) * np.int8(weight.any())
    limit = 2 ** (bits - 1) - 1
    return np.clip(round_half_up(weight.astype(np.float64) * 2.0**exponent), -limit, limit).astype(np.int8)


def softmax_error(logits: np.ndarray, exponent: int, target: np.ndarray) -> np.ndarray:
    """target - softmax(logits 2^-exponent), counted in 2^-15.

        e_k = EXPONENTIAL[max_j z_j - z_k],    error_k = target_k - floor(2^15 e_k / sum_j e_j)         (9)

    Args:
        logits: (B, K) int64.
        target: (B, K) int64, in 2^-15.
    """
    gap = rescale(logits.max(1, keepdims=True) - logits, gap_shift(exponent))
    e = EXPONENTIAL[np.minimum(gap, len(EXPONENTIAL) - 1)]
    return target - (e << ERROR_BITS) // e.sum(1, keepdims=True)


def margin_error(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    """onehot(y) - onehot(argmax_{j != y} z_j), y = argmax target, counted in 2^-15; the first of equal logits.

    Args and result: as for `softmax_error`.
    """
    classes = np.arange(logits.shape[1])
    own = classes == target.argmax(1)[:, None]
    rival = classes == np.where(own, np.iinfo(np.int64).min, logits).argmax(1)[:, None]
    return (own.astype(np.int64) - rival) << ERROR_BITS


def nudge_pull(error: np.ndarray, weight: np.ndarray, beta: int, shift: int) -> np.ndarray:
    """Drive beta W_out^T error of a nudge at the top accumulator's scale: (B, C, H, W) int64.

    Args:
        error: (B, K) in 2^-15.
        weight: (K, C, H, W).
        beta: numerator over 2^16.
        shift: see `LoihiProgram.nudge_shift`.
    """
    k = len(weight)
    product = error @ weight.reshape(k, -1).astype(np.int64)
    return rescale(beta * product, shift).reshape(len(error), *weight.shape[1:])
