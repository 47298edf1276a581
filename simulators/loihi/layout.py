"""Which arrays host and processes share, and how large they are."""

from simulators.loihi.arithmetic import Arithmetic

RING = 17   # states a population remembers: 16 steps can be run before the host looks


def layout_of(graph, arithmetic: Arithmetic, batch: int) -> dict:
    """Arrays that host and processes share, as `Arena` takes them."""
    def cells(kind, *shape):
        return kind.__name__, shape

    state, sums = arithmetic.state, arithmetic.sum
    layout = {f"history.{n}": cells(state, RING, batch, *p.shape) for n, p in enumerate(graph.populations)}
    return layout | {"image": cells(state, batch, *graph.image_shape), "logits": cells(sums, batch, graph.classes),
                     "target": cells(sums, batch, graph.classes), "beta": cells(arithmetic.strength, 1),
                     "clock": ("int64", (3,))}
