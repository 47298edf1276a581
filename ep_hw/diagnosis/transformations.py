"""Known faults of weights, as small named transformations, and the search for the one that explains an array.

Let an array that should hold w hold v, both (C_out, C_in, k_h, k_w), and let `project` round as an honest compiler
does, to integers or to conductance levels. Where v is not project(w), some kernels (o, i) are wrong. A transformation
T explains them when

    |v - project(T(w))| <= ACCEPTED max(|project(T(w))|, |v|)    over the wrong kernels                     (1)
"""

from collections.abc import Callable, Iterable

import numpy as np

ACCEPTED = 0.02
_FEW = 3   # channels that a sentence lists

Transform = Callable[[np.ndarray], np.ndarray]


def _exchanged(w: np.ndarray) -> np.ndarray:
    """Inputs and outputs exchanged; as it is where the layer is not square."""
    return w.swapaxes(0, 1) if w.shape[0] == w.shape[1] else w


def _transposed(w: np.ndarray) -> np.ndarray:
    return w.swapaxes(2, 3) if w.shape[2] == w.shape[3] else w


def _scaled(power: int) -> Transform:
    return lambda w: w * 2.0**power


SCALES = {f"times {2.0**k:g} (an exponent off by {abs(k)})": _scaled(k) for k in (-4, -3, -2, -1, 1, 2, 3, 4)}
GENERAL: dict[str, Transform] = {"lost (all zero)": np.zeros_like, "with the sign inverted": np.negative, **SCALES}
SPATIAL: dict[str, Transform] = {
    "flipped left to right": lambda w: w[..., ::-1],
    "flipped upside down": lambda w: w[..., ::-1, :],
    "turned by 180 degrees": lambda w: w[..., ::-1, ::-1],
    "turned by 90 degrees": lambda w: np.rot90(w, axes=(2, 3)) if w.shape[2] == w.shape[3] else w,
    "transposed in space": _transposed,
    "with inputs and outputs exchanged": _exchanged,
}
WEIGHT_FAULTS: dict[str, Transform] = {**SPATIAL, **GENERAL}
BIAS_FAULTS: dict[str, Transform] = GENERAL


def explain_weights(wanted: np.ndarray, held: np.ndarray, project: Transform, wrong: np.ndarray, *,
                    noun: str = "weights", others: Iterable[tuple[str, np.ndarray]] = ()) -> str | None:
    """The end of a sentence that says what an array holds: "its weights are the checkpoint's, flipped left to right".

    Args:
        wanted: (C_out, C_in, k_h, k_w) that it should hold.
        held: that it holds, of the same shape, in the units of `project`.
        project: rounds as an honest compiler does.
        wrong: (C_out, C_in), bool: kernels that are not what they should be.
        noun: "weights" or "biases".
        others: (name, array) of other layers, whose weights may stand here instead.
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


def _fits(held: np.ndarray, expected: np.ndarray, wrong: np.ndarray) -> bool:
    """Whether a transformation explains the wrong kernels, `ep_hw.diagnosis.transformations` (1)."""
    if expected.shape != held.shape:
        return False
    size = max(np.linalg.norm(expected[wrong]), np.linalg.norm(held[wrong]))
    return bool(np.linalg.norm((held - expected)[wrong].astype(np.float64)) <= ACCEPTED * size)


def _extent(wrong: np.ndarray) -> str:
    """Which channels are wrong, in words; an empty text where most of them are."""
    outputs, inputs = (np.flatnonzero(wrong.any(axis)) for axis in (1, 0))
    if len(outputs) <= _FEW and len(outputs) < wrong.shape[0]:
        single = len(inputs) == 1 < wrong.shape[1]
        return f" of output channel {_listed(outputs)}" + (f", input channel {inputs[0]}," if single else "")
    if len(inputs) <= _FEW and len(inputs) < wrong.shape[1]:
        return f" of input channel {_listed(inputs)}"
    return ""


def _stuck(held: np.ndarray, wrong: np.ndarray, noun: str, of: str) -> str | None:
    values = np.unique(held[wrong])
    return f"its {noun}{of} are stuck at {values[0]:.4g}" if len(values) == 1 else None


def _moved(expected: np.ndarray, held: np.ndarray, noun: str) -> str | None:
    """Channels that are in another order, in words."""
    for axis, kind in ((0, "output"), (1, "input")):
        order = _permutation(np.moveaxis(expected, axis, 0), np.moveaxis(held, axis, 0))
        if order is None or not np.any(moved := order != np.arange(len(order))):
            continue
        if moved.sum() == 2:
            return f"{kind} channels {_listed(np.flatnonzero(moved))} of its {noun} are swapped"
        return f"{kind} channels of its {noun} are in another order: {_ranges(order, moved)}"
    return None


def _permutation(expected: np.ndarray, held: np.ndarray) -> np.ndarray | None:
    """For each channel of `held` the channel of `expected` that it equals; None where `held` is no reordering."""
    a, b = (x.reshape(len(x), -1).astype(np.float64) for x in (expected, held))
    distance = np.square(b[:, None] - a[None]).sum(-1) if len(a) <= 64 else (
        np.square(b).sum(1)[:, None] + np.square(a).sum(1) - 2 * b @ a.T)
    order = distance.argmin(1)
    unique = len(np.unique(order)) == len(order)
    return order if unique and np.linalg.norm(b - a[order]) <= ACCEPTED * np.linalg.norm(b) else None


def _ranges(order: np.ndarray, moved: np.ndarray) -> str:
    """Runs of moved channels, as blocks: "0-7 hold 8-15"."""
    places = np.flatnonzero(moved)
    runs = np.split(places, np.flatnonzero((np.diff(places) != 1) | (np.diff(order[places]) != 1)) + 1)
    words = [f"{run[0]}-{run[-1]} hold {order[run[0]]}-{order[run[-1]]}" if len(run) > 1 else
             f"{run[0]} holds {order[run[0]]}" for run in runs[:_FEW]]
    return ", ".join(words) + (" ..." if len(runs) > _FEW else "")


def _listed(channels: np.ndarray) -> str:
    return " and ".join(map(str, channels[-2:])) if len(channels) <= 2 else (
        ", ".join(map(str, channels[:-1])) + f" and {channels[-1]}")
