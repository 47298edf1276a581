"""Which arrays host and processes share, and how large they are."""

from mapping.graph import EPGraph
from simulators.loihi.arithmetic import Arithmetic
from simulators.loihi.clock import CELLS

RING = 17   # states a population remembers: 16 steps can be run before the host looks


def layout_of(graph: EPGraph, arithmetic: Arithmetic, batch: int) -> dict:
    """Arrays that host and processes share, as `SharedArrays` takes them."""
    def cells(kind: type, *shape) -> tuple[str, tuple[int, ...]]:
        return kind.__name__, shape

    state, sums = arithmetic.state, arithmetic.sum
    rings = ("history", "sent") if arithmetic.events else ("history",)
    layout = {f"{ring}.{n}": cells(state, RING, batch, *p.shape) for ring in rings
              for n, p in enumerate(graph.populations)}
    return layout | {"image": cells(state, batch, *graph.image_shape), "logits": cells(sums, batch, graph.classes),
                     "target": cells(sums, batch, graph.classes), "beta": cells(arithmetic.strength, 1),
                     "clock": ("int64", (CELLS,))}
