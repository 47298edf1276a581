"""Known faults of weights, as small named transformations, and the search for the one that explains an array.

Let w be what an array should hold and v what it holds, both (C_out, C_in, k_h, k_w). Where v is not w, some kernels
(o, i) are wrong. A transformation T explains them when

    |v - project(T(w))| <= ACCEPTED |project(T(w)) or w|    over the wrong kernels                          (1)

`project` being what an honest compiler makes of a weight (rounding to integers or to conductance levels).
"""

from collections.abc import Callable

import numpy as np

ACCEPTED = 0.02
_FEW = 3   # channels that a sentence lists

Project = Callable[[np.ndarray], np.ndarray]


def _exchanged(w):
    """Inputs and outputs exchanged; as it is where the layer is not square."""
    return w.swapaxes(0, 1) if w.shape[0] == w.shape[1] else w


def _transposed(w):
    return w.swapaxes(2, 3) if w.shape[2] == w.shape[3] else w


def _scaled(power: int):
    return lambda w: w * 2.0**power


SCALES = {f"times {2.0**k:g} (an exponent off by {abs(k)})": _scaled(k) for k in (-4, -3, -2, -1, 1, 2, 3, 4)}
GENERAL = {"lost (all zero)": np.zeros_like, "with the sign inverted": np.negative, **SCALES}
SPATIAL = {
    "flipped left to right": lambda w: w[..., ::-1],
    "flipped upside down": lambda w: w[..., ::-1, :],
    "turned by 180 degrees": lambda w: w[..., ::-1, ::-1],
    "turned by 90 degrees": lambda w: np.rot90(w, axes=(2, 3)) if w.shape[2] == w.shape[3] else w,
    "transposed in space": _transposed,
    "with inputs and outputs exchanged": _exchanged,
}
WEIGHT_FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {**SPATIAL, **GENERAL}
BIAS_FAULTS: dict[str, Callable[[np.ndarray], np.ndarray]] = GENERAL


def explain_weights(wanted: np.ndarray, held: np.ndarray, project: Project, wrong: np.ndarray, *,
                    noun: str = "weights", others=()) -> str | None:
    """A sentence's end that says what `held` is, e.g. "its weights are the checkpoint's, flipped left to right".

    Args:
        wanted: (C_out, C_in, k_h, k_w). held: the same shape, in the units that `project` gives.
        wrong: (C_out, C_in), bool: kernels that are not what they should be.
        others: (name, array) of other layers of equal shape, whose weights may stand here instead.
    """
    faults = WEIGHT_FAULTS if noun == "weights" else BIAS_FAULTS
    of = _extent(wrong)
    for name, other in others:
        if _fits(held, project(other), wrong):
            return f"its {noun}{of} are those of {name}"
    for name, transform in faults.items():
        if _fits(held, project(transform(wanted)), wrong):
            return f"its {noun}{of} are the checkpoint's, {name}"
    return _stuck(held, wrong, noun, of) or _moved(project(wanted), held, noun)


def _fits(held, expected, wrong) -> bool:
    """Equation (1)."""
    if expected.shape != held.shape:
        return False
    size = max(np.linalg.norm(expected[wrong]), np.linalg.norm(held[wrong]))
    return np.linalg.norm((held - expected)[wrong].astype(np.float64)) <= ACCEPTED * size


def _extent(wrong: np.ndarray) -> str:
    """Which kernels are wrong, in words; nothing where most of them are."""
    outputs, inputs = (np.flatnonzero(wrong.any(axis)) for axis in (1, 0))
    if len(outputs) <= _FEW and len(outputs) < wrong.shape[0]:
        single = len(inputs) == 1 < wrong.shape[1]
        return f" of output channel {_listed(outputs)}" + (f", input channel {inputs[0]}," if single else "")
    if len(inputs) <= _FEW and len(inputs) < wrong.shape[1]:
        return f" of input channel {_listed(inputs)}"
    return ""


def _stuck(held, wrong, noun, of) -> str | None:
    values = np.unique(held[wrong])
    return f"its {noun}{of} are stuck at {values[0]:.4g}" if len(values) == 1 else None


def _moved(expected, held, noun) -> str | None:
    """Channels that stand in each other's place."""
    for axis, kind in ((0, "output"), (1, "input")):
        order = _permutation(np.moveaxis(expected, axis, 0), np.moveaxis(held, axis, 0))
        if order is None or not np.any(moved := order != np.arange(len(order))):
            continue
        if moved.sum() == 2:
            return f"{kind} channels {_listed(np.flatnonzero(moved))} of its {noun} are swapped"
        return f"{kind} channels of its {noun} are in another order: {_ranges(order, moved)}"
    return None


def _permutation(expected, held) -> np.ndarray | None:
    """For each channel of `held` the channel of `expected` that it is; None where that is no reordering."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (expected, held))
    distance = np.square(b[:, None] - a[None]).sum(-1) if len(a) <= 64 else (
        np.square(b).sum(1)[:, None] + np.square(a).sum(1) - 2 * b @ a.T)
    order = distance.argmin(1)
    unique = len(np.unique(order)) == len(order)
    return order if unique and np.linalg.norm(b - a[order]) <= ACCEPTED * np.linalg.norm(b) else None


def _ranges(order, moved) -> str:
    """Runs of moved channels, as blocks: "0-7 hold 8-15"."""
    places = np.flatnonzero(moved)
    runs = np.split(places, np.flatnonzero((np.diff(places) != 1) | (np.diff(order[places]) != 1)) + 1)
    words = [f"{run[0]}-{run[-1]} hold {order[run[0]]}-{order[run[-1]]}" if len(run) > 1 else
             f"{run[0]} holds {order[run[0]]}" for run in runs[:_FEW]]
    return ", ".join(words) + (" ..." if len(runs) > _FEW else "")


def _listed(channels) -> str:
    return " and ".join(map(str, channels[-2:])) if len(channels) <= 2 else (
        ", ".join(map(str, channels[:-1])) + f" and {channels[-1]}")
