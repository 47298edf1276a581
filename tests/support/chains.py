"""Random chains of layers of any shape, without torch: `from chains import random_chain`."""

import numpy as np

from mapping.graph import Activity, Coupling, EPGraph, Population

FEEDBACK = ("full", "mixed", "none")   # gains of 1; of 0 to 1; of 0, and one pass


def random_chain(seed: int, *, deep: bool = True, schedule: str = "synchronous", feedback: str = "full",
                 unusual: bool = False) -> EPGraph:
    """One to three layers (two or three where `deep`) of random kernels, paddings, pools, slopes and weight sizes.

    Args:
        seed: of all that is random.
        deep: two or three layers.
        schedule: of a network with feedback.
        feedback: one of `FEEDBACK`.
        unusual: with random strides, ceilings (also none), and slopes that are no powers of two.
    """
    rng, own = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    shape = pre = (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(5, 10, 2)))
    couplings, populations = [], []
    for n in range(rng.integers(2 if deep else 1, 4)):
        room = min(pre[1:])
        kernel, padding = int(rng.integers(1, min(room, 3) + 1)), int(rng.integers(0, 3))
        stride = int(own.integers(1, 4)) if unusual else 1
        pool = int(rng.integers(1, 3)) if (room + 2 * padding - kernel) // stride + 1 >= 2 else 1
        weight = rng.standard_normal((int(rng.integers(1, 8)), pre[0], kernel, kernel)) * 10.0 ** rng.uniform(-1, 0.3)
        coupling = Coupling(f"conv{n + 1}", np.float32(weight), np.float32(rng.standard_normal(len(weight))), padding,
                            pool, pre, stride, _gain(own, feedback))
        couplings.append(coupling)
        pre = coupling.post
        slope = float(rng.choice([0.25, 0.5, 1.0, 2.0])) * (own.uniform(0.5, 1.5) if unusual else 1)
        ceiling = float(own.choice([0.3, 1, 6, np.inf])) if unusual else 1.0
        populations.append(Population(f"layer{n + 1}", pre, slope, ceiling))
    readout = Coupling("readout", np.float32(rng.standard_normal((4, *pre))), np.float32(rng.standard_normal(4)), 0, 1,
                       pre)
    return EPGraph(shape, np.float32(rng.uniform(0, 1, shape[0])), np.float32(rng.uniform(0.5, 1.5, shape[0])),
                   tuple(populations), tuple(couplings), readout, "sequential" if feedback == "none" else schedule, 60,
                   1e-3)


def _gain(rng: np.random.Generator, feedback: str) -> float:
    """A feedback gain; one in four of the mixed ones is 0."""
    mixed = rng.uniform(0.05, 1) * (rng.random() > 0.25)
    return {"full": 1.0, "mixed": float(mixed), "none": 0.0}[feedback]


def random_activity(graph: EPGraph, seed: int, count: int = 6) -> Activity:
    """Activity that no relaxation made: random images and states, those without a ceiling up to 3."""
    rng = np.random.default_rng(seed)
    shapes = (graph.image_shape, *(p.shape for p in graph.populations))
    images, *states = (np.float32(rng.random((count, *shape))) for shape in shapes)
    ceilings = (min(p.ceiling, 3) for p in graph.populations)
    return Activity(images, tuple(s * np.float32(ceiling) for s, ceiling in zip(states, ceilings)))
