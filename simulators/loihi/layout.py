"""Which arrays host and processes share, and how large they are."""

from simulators.loihi.arithmetic import Arithmetic
from simulators.loihi.clock import CELLS

RING = 17   # states a population remembers: 16 steps can be run before the host looks


def layout_of(graph, arithmetic: Arithmetic, batch: int) -> dict:
    """Arrays that host and processes share, as `SharedArrays` takes them."""
    def cells(kind, *shape):
        return kind.__name__, shape

    state, sums = arithmetic.state, arithmetic.sum
    rings = ("history", "sent") if arithmetic.events else ("history",)
    layout = {f"{ring}.{n}": cells(state, RING, batch, *p.shape) for ring in rings
              for n, p in enumerate(graph.populations)}
    return layout | {"image": cells(state, batch, *graph.image_shape), "logits": cells(sums, batch, graph.classes),
                     "target": cells(sums, batch, graph.classes), "beta": cells(arithmetic.strength, 1),
                     "clock": ("int64", (CELLS,))}
