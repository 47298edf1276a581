"""Random chains of layers of any shape, without torch: `from chains import random_chain`."""

import numpy as np

from mapping.graph import Activity, Coupling, EPGraph, Population


def random_chain(seed: int, *, deep: bool = True, schedule: str = "synchronous") -> EPGraph:
    """One to three layers (two or three where `deep`) of random kernels, paddings, pools, slopes and weight sizes."""
    rng = np.random.default_rng(seed)
    shape = pre = (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(5, 10, 2)))
    couplings, populations = [], []
    for n in range(rng.integers(2 if deep else 1, 4)):
        room = min(pre[1:])
        kernel, padding = int(rng.integers(1, min(room, 3) + 1)), int(rng.integers(0, 3))
        pool = int(rng.integers(1, 3)) if room + 2 * padding - kernel + 1 >= 2 else 1
        weight = rng.standard_normal((int(rng.integers(1, 8)), pre[0], kernel, kernel)) * 10.0 ** rng.uniform(-1, 0.3)
        coupling = Coupling(f"conv{n + 1}", np.float32(weight), np.float32(rng.standard_normal(len(weight))), padding,
                            pool, pre)
        couplings.append(coupling)
        pre = coupling.post
        populations.append(Population(f"layer{n + 1}", pre, float(rng.choice([0.25, 0.5, 1.0, 2.0]))))
    readout = Coupling("readout", np.float32(rng.standard_normal((4, *pre))), np.float32(rng.standard_normal(4)), 0, 1,
                       pre)
    return EPGraph(shape, np.float32(rng.uniform(0, 1, shape[0])), np.float32(rng.uniform(0.5, 1.5, shape[0])),
                   tuple(populations), tuple(couplings), readout, schedule, 60, 1e-3)


def random_activity(graph: EPGraph, seed: int, count: int = 6) -> Activity:
    """Activity that no relaxation made: random images and states."""
    rng = np.random.default_rng(seed)
    shapes = (graph.image_shape, *(p.shape for p in graph.populations))
    images, *states = (np.float32(rng.random((count, *shape))) for shape in shapes)
    return Activity(images, tuple(states))
