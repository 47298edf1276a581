"""Max-pools of the reference: torch's, whichever way the maps lie in memory."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from simulators.reference import pool

shapes = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(2, 9), st.integers(2, 9))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@given(shape=shapes, seed=st.integers(0, 2**30))
@settings(max_examples=40, deadline=None)
def test_values_winners_and_gradients_are_those_of_torch_in_the_order_of_memory_that_came(order, shape, seed):
    """Of maps with equals among them, whose first one wins."""
    maps = torch.randint(3, shape, generator=torch.Generator().manual_seed(seed)).float()
    ours, theirs = (maps.clone().contiguous(memory_format=order).requires_grad_() for _ in range(2))
    (values, winners), (wanted, places) = pool(ours, 2), F.max_pool2d(theirs, 2, return_indices=True)
    assert torch.equal(values, wanted)
    assert torch.equal(winners, places)
    assert values.stride() == wanted.stride()
    assert winners.stride() == places.stride()
    weights = torch.rand(wanted.shape, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(torch.autograd.grad((values * weights).sum(), ours)[0],
                       torch.autograd.grad((wanted * weights).sum(), theirs)[0])
