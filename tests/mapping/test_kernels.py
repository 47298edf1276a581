"""The numpy kernels against torch's, exactly on integers, and their adjoint law."""

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mapping.kernels import convolve, convolve_transpose, max_pool, unpool

SOME = settings(max_examples=30)


@SOME
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(5, 8))
def test_convolution_and_its_adjoint_are_torch_s_on_integers(seed, k_h, k_w, padding, side):
    rng = np.random.default_rng(seed)
    x, weight = rng.integers(-9, 10, (2, 3, side, side + 1)), rng.integers(-9, 10, (4, 3, k_h, k_w))
    ours = convolve(x, weight, padding)
    z = rng.integers(-9, 10, ours.shape)
    adjoint = convolve_transpose(z, weight, padding)
    tensors = [torch.tensor(array) for array in (x, weight, z)]
    assert np.array_equal(ours, F.conv2d(tensors[0], tensors[1], padding=padding).numpy())
    assert np.array_equal(adjoint, F.conv_transpose2d(tensors[2], tensors[1], padding=padding).numpy())
    assert (ours * z).sum() == (x * adjoint).sum()


@SOME
@given(st.integers(0, 10**6), st.integers(4, 7))
def test_pooling_takes_the_first_of_equals_and_unpooling_puts_it_back(seed, side):
    a = np.random.default_rng(seed).integers(0, 3, (2, 3, side, side + 1)).astype(np.float32)
    values, winners = max_pool(a, 2)
    expected, places = F.max_pool2d(torch.tensor(a), 2, return_indices=True)
    assert np.array_equal(values, expected.numpy())
    back = F.max_unpool2d(expected, places, 2, output_size=a.shape[2:])
    assert np.array_equal(unpool(values, winners, 2, a.shape[1:]), back.numpy())
