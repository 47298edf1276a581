"""How many threads sums are shared out to: their last bits are the same only for the same number."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` torch threads within, and one for numpy's matrix products, whatever the environment says.

    Small networks run fastest on one. Also a decorator.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
