"""Proof that no accumulator of a Loihi program overflows, from its actual weights.

The accumulator of unit (n, c) sums products W S with 0 <= S <= S_max, the largest state of the layer that S is of. In
whatever order they are added, and wherever the sum is cut, a partial sum holds some of the positive and some of the
negative terms, so it lies in

    [-down_c, up_c],    up_c   = 2^f sum W+ S_max + 2^b S_max max_parity sum_windows max_window W'+ + max(B_c, 0) + h
                        down_c = the same with W- in place of W+, -B in place of B, and without h               (10)

W is the coupling below (forward), W' the one above (backward, absent where its gain is 0), f and b the shifts that
align them, B the bias and h the half that rounds. Feedback reaches a unit through the winner of each pool window only,
hence one weight a window, for the worst position (parity) of the unit among strides and windows. Reaches are (2, C)
arrays: row 0 up, row 1 down.
Below 2^23 = `ACCUMULATOR_LIMIT` a 24-bit accumulator is safe and float32 arithmetic on these integers is exact.
A shift to the left is part of its term, and shifted terms are those of equation (10), so no shift passes the bound.
What shifts and biases may make large is summed in Python's integers, which know no overflow of their own.

With sigma-delta messages an accumulator is kept from step to step and each message W (S_new - S_old) changes it in
place. Between two messages it is the sum over sources of W S with S the old state of some and the new state of the
others: a mixture, but each S is still within 0 .. S_max, so equation (10) holds for it. Feedback moves too: when the
winner of a window changes, the old one's state is withdrawn before the new one's is added, so that at any moment no
window adds more than one weight. Hence the same bound, whatever the threshold.
"""

from collections.abc import Sequence
from functools import reduce
from itertools import product

import numpy as np

from mapping.graph import EPGraph
from mapping.loihi.integers import round_half_up
from mapping.loihi.limits import limit

ACCUMULATOR_LIMIT = 2 ** (limit("state bits") - 1)


def signed_sums(weight: np.ndarray) -> np.ndarray:
    """(2, C_out, C_in): sums of W+ and of W- over each kernel of `weight` (C_out, C_in, k, k)."""
    weight = weight.astype(np.int64)
    return np.stack([np.maximum(weight, 0).sum((2, 3)), np.maximum(-weight, 0).sum((2, 3))])


def forward_reach(sums: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Reach of sum_i W_ci x_i over any subset of terms, for low_i <= x_i <= high_i.

    Args:
        sums: from `signed_sums`.
        low: (C_in,) integers; zero counts as inside (padding).
        high: (C_in,) integers, alike.
    """
    positive, negative = sums.astype(object)
    high, low = np.maximum(high, 0), np.maximum(-low, 0)
    return np.stack([positive @ high + negative @ low, negative @ high + positive @ low])


def backward_reach(weight: np.ndarray, pool: int, stride: int) -> np.ndarray:
    """Reach (2, C_in) of the transposed convolution for states of size 1 with one winner a pool window."""
    weight = weight.astype(np.int64)
    reached = [weight[:, :, i::stride, j::stride] for i, j in product(range(stride), repeat=2)]
    parities = [(i, j) for i in range(pool) for j in range(pool)]
    return np.stack([np.max([_one_a_window(np.maximum(sign * w, 0), pool, parity)
                             for w in reached for parity in parities], axis=0) for sign in (1, -1)])


def _one_a_window(weight: np.ndarray, pool: int, parity: tuple[int, int]) -> np.ndarray:
    """(C_in,) sum over output channels and windows of the largest weight in each window."""
    before = np.array(parity)
    after = -(np.array(weight.shape[2:]) + before) % pool
    w = np.pad(weight, ((0, 0), (0, 0), *zip(before, after)))
    places = (w[:, :, i::pool, j::pool] for i, j in product(range(pool), repeat=2))
    return reduce(np.maximum, places).sum(0, dtype=np.int64).sum((1, 2))


def input_reach(graph: EPGraph, n: int, sums: np.ndarray, tops: Sequence[int], input_bits: int) -> np.ndarray:
    """Reach (2, C_out) of coupling n on what it reads (the readout counts as the last coupling).

    Args:
        graph: whose images the first coupling reads.
        n: from 0.
        sums: from `signed_sums` of the coupling.
        tops: largest state of each layer.
        input_bits: of the image.
    """
    if n:
        return sums.sum(2).astype(object) * tops[n - 1]
    ends = [(np.float32(image) - graph.mean) / graph.scale for image in (0, 1)]
    return forward_reach(sums, *(round_half_up(x * np.float32(2**input_bits)) for x in ends))


def accumulator_bound(forward: np.ndarray, forward_shift: int, backward: np.ndarray | None, backward_shift: int,
                      bias: np.ndarray, half: int) -> int:
    """Largest magnitude of any partial sum of one layer, over all channels: equation (10).

    Args:
        forward: from `input_reach` of the coupling below.
        forward_shift: its left shift.
        backward: from `backward_reach` of the coupling above times its layer's largest state, None where nothing is
            fed back.
        backward_shift: its left shift.
        bias: (C,) int64.
        half: what is added to round.
    """
    bias = bias.astype(object)
    total = np.stack([np.maximum(bias, 0) + half, np.maximum(-bias, 0)]) + (forward << forward_shift)
    if backward is not None:
        total = total + (backward.astype(object) << backward_shift)
    return int(total.max())
