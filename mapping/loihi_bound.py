"""Proof that no accumulator of a Loihi program overflows, from its actual weights.

The accumulator of unit (n, c) sums products W S with 0 <= S <= S_max. In whatever order they are added, and
wherever the sum is cut, a partial sum holds some of the positive and some of the negative terms, so it lies in

    [-down_c, up_c],    up_c   = 2^f sum W+ S_max + 2^b S_max max_parity sum_windows max_window W'+ + max(B_c, 0)  (10)
                        down_c = the same with W- in place of W+ and -B in place of B

W is the coupling below (forward), W' the one above (feedback), f and b the shifts that align them, B the bias with
the half that rounds. Feedback reaches a unit through the winner of each pool window only, hence one weight a window,
for the worst position (parity) of the unit among the windows. Reaches are (2, C) arrays: row 0 up, row 1 down.
Below 2^23 = `ACCUMULATOR_LIMIT` a 24-bit accumulator is safe and float32 arithmetic on these integers is exact.
"""

from itertools import product

import numpy as np

ACCUMULATOR_LIMIT = 2**23


def signed_sums(weight: np.ndarray) -> np.ndarray:
    """(2, C_out, C_in): sums of W+ and of W- over each kernel of `weight` (C_out, C_in, k, k)."""
    weight = weight.astype(np.int64)
    return np.stack([np.maximum(weight, 0).sum((2, 3)), np.maximum(-weight, 0).sum((2, 3))])


def forward_reach(sums: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Reach of sum_i W_ci x_i over any subset of terms, for low_i <= x_i <= high_i.

    Args:
        sums: from `signed_sums`. low, high: (C_in,) integers; zero counts as inside (padding).
    """
    positive, negative = sums
    high, low = np.maximum(high, 0), np.maximum(-low, 0)
    return np.stack([positive @ high + negative @ low, negative @ high + positive @ low])


def feedback_reach(weight: np.ndarray, pool: int) -> np.ndarray:
    """Reach (2, C_in) of the transposed convolution for states of size 1 with one winner a pool window."""
    signs = (weight.astype(np.int64), -weight.astype(np.int64))
    return np.stack([np.max([_one_a_window(np.maximum(w, 0), pool, parity)
                             for parity in product(range(pool), repeat=2)], axis=0) for w in signs])


def _one_a_window(weight: np.ndarray, pool: int, parity: tuple[int, int]) -> np.ndarray:
    """(C_in,) sum over output channels and windows of the largest weight in each window."""
    before = np.array(parity)
    after = -(np.array(weight.shape[2:]) + before) % pool
    w = np.pad(weight, ((0, 0), (0, 0), *zip(before, after)))
    c_out, c_in, h, v = w.shape
    return w.reshape(c_out, c_in, h // pool, pool, v // pool, pool).max((3, 5)).sum((0, 2, 3))


def total_bound(reaches: list[tuple[np.ndarray, int]], bias: np.ndarray) -> int:
    """Largest magnitude of any partial sum over all channels: equation (10).

    Args:
        reaches: pairs of a (2, C) reach and the left shift that aligns it. bias: (C,) with its rounding half.
    """
    total = np.stack([np.maximum(bias, 0), np.maximum(-bias, 0)])
    for reach, shift in reaches:
        total = total + (reach << shift)
    return int(total.max())
