"""EPGraph: the contract between a trained network and every machine.

A network with layers n = 1..L relaxes the states s_n to a fixed point of

    a_n = w_n * s_{n-1} + b_n,   (u_n, I_n) = maxpool(a_n),   s_0 = (image - mean) / scale      (1)
    g_n = u_n + gamma_{n+1} conv_transpose(unpool(s_{n+1}, I_{n+1}), w_{n+1})                   (2)
    s_n <- clamp(slope_n g_n, 0, ceiling_n)                                                    (3)
    logits = w_out * s_L + b_out                                                               (4)

An EP-CNN has feedback gains gamma of 1 and ceilings of 1. Gains of 0 make a feed-forward network of rectified linear
units: under the "sequential" schedule it is at rest once each layer has been updated, the first one first. Any gains
above 0 leave an energy, simulators.reference (1).

The graph holds numpy arrays only: no torch, no hardware.
Source: equilibrium propagation for convolutional networks, Ernoult et al. 2019 and Laborieux et al. 2021.
"""

from dataclasses import dataclass

import numpy as np

from mapping.errors import Refusal
from mapping.names import in_a_line

SEQUENTIAL = "sequential"   # each layer once, from the image on: feed-forward networks alone
SCHEDULES = ("synchronous", "alternating", SEQUENTIAL)
LARGEST, SMALLEST = 1e16, 1e-15   # of a layer's largest weight: squares and sums then stay within float32 everywhere
LARGEST_PIXEL, LARGEST_SCALE, LARGEST_SLOPE, LARGEST_GAIN = 1e3, 1e6, 1e6, 1e3   # for the same reason


def period_of(schedule: str, depth: int) -> int:
    """Time steps in a sweep, in which each of `depth` layers is updated once."""
    return {"synchronous": 1, "alternating": 2, SEQUENTIAL: depth}[schedule]


@dataclass(frozen=True)
class Population:
    """Neurons of one layer: states s of `shape` (C, H, W) in [0, ceiling], activation clamp(slope g, 0, ceiling).

    The ceiling is 1 in an EP-CNN, infinity for a rectified linear unit.
    """

    name: str
    shape: tuple[int, int, int]
    slope: float
    ceiling: float = 1.0


@dataclass(frozen=True)
class Window:
    """How a coupling's kernel meets its map.

    Attributes:
        kernel: (k_h, k_w), in pixels.
        padding: zeros around the map below, in pixels.
        stride: pixels between neighbouring places of the kernel.
        pool: side of the square max-pool window, 1 (none) or 2.
        pre: shape (C_in, H, W) of the map below.
        unpooled: shape (C_out, H', W') of the convolution's output, before pooling.
    """

    kernel: tuple[int, int]
    padding: int
    stride: int
    pool: int
    pre: tuple[int, int, int]
    unpooled: tuple[int, int, int]

    @property
    def post(self) -> tuple[int, int, int]:
        """Shape (C_out, H', W') of the map above, after pooling."""
        c, h, w = self.unpooled
        return c, h // self.pool, w // self.pool

    @property
    def uncovered(self) -> tuple[int, int]:
        """Rows and columns at the far edges of the padded map below that no place of the kernel reaches."""
        return ((self.pre[1] + 2 * self.padding - self.kernel[0]) % self.stride,
                (self.pre[2] + 2 * self.padding - self.kernel[1]) % self.stride)


@dataclass(frozen=True, eq=False)
class Coupling:
    """Weights between two layers, used in both directions.

    Attributes:
        weight: (C_out, C_in, k_h, k_w), float32. A dense layer is a kernel as large as its input map.
        bias: (C_out,), float32, added to the convolution.
        padding: zeros around the input map, in pixels.
        pool: side of the square max-pool window, 1 (none) or 2.
        pre: shape (C_in, H, W) of the map it reads.
        stride: pixels between neighbouring places of the kernel.
        feedback_gain: gamma of equation (2), 0 or more; the first coupling and the readout feed nothing back.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    padding: int
    pool: int
    pre: tuple[int, int, int]
    stride: int = 1
    feedback_gain: float = 1.0

    @property
    def window(self) -> Window:
        c_out, _, k_h, k_w = self.weight.shape
        height, width = ((length + 2 * self.padding - k) // self.stride + 1
                         for length, k in zip(self.pre[1:], (k_h, k_w)))
        return Window((k_h, k_w), self.padding, self.stride, self.pool, self.pre, (c_out, height, width))

    @property
    def unpooled(self) -> tuple[int, int, int]:
        """Shape (C_out, H', W') of the convolution's output, before pooling."""
        return self.window.unpooled

    @property
    def post(self) -> tuple[int, int, int]:
        """Shape (C_out, H', W') of the map it writes, after pooling."""
        return self.window.post


@dataclass(frozen=True, eq=False)
class Activity:
    """What the network does on calibration images: sizes converters, decides nothing else.

    Attributes:
        images: (N, C, H, W) training images in [0, 1].
        states: one (N, C, H, W) array a population, at the reference's free equilibrium.
    """

    images: np.ndarray
    states: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class EPGraph:
    """A chain of populations joined by couplings; see the module's equations (1) to (4).

    Attributes:
        image_shape: (C, H, W) of the images, whose values lie in [0, 1].
        mean, scale: per-channel normalisation s_0 = (image - mean) / scale, each (C,).
        populations: L populations, from the image on.
        couplings: L couplings; number n drives population n from population n-1 (the image for n = 0).
        readout: the linear layer of equation (4), outside the energy.
        schedule: "synchronous", "alternating" (odd layers, then even layers: two steps a sweep) or "sequential".
        steps: most time steps of a free phase.
        tolerance: largest state change over one sweep at which a relaxation has converged.
        activity: recorded states on calibration images, None where the network came without any.
    """

    image_shape: tuple[int, int, int]
    mean: np.ndarray
    scale: np.ndarray
    populations: tuple[Population, ...]
    couplings: tuple[Coupling, ...]
    readout: Coupling
    schedule: str
    steps: int
    tolerance: float
    activity: Activity | None = None

    def __repr__(self):
        weights = sum(c.weight.size for c in (*self.couplings, self.readout))
        return in_a_line(self, f"of {len(self.couplings) + 1} layers: {weights} weights, images of "
                               f"{'x'.join(map(str, self.image_shape))}, {self.classes} classes, {self.schedule}")

    @property
    def classes(self) -> int:
        return self.readout.weight.shape[0]

    @property
    def has_feedback(self) -> bool:
        """Whether it relaxes: a feed-forward network answers in one pass and cannot be nudged."""
        return self.schedule != SEQUENTIAL

    @property
    def gains(self) -> tuple[float, ...]:
        """gamma of each coupling, then of the readout: 0 where nothing is fed back."""
        return (0.0, *(coupling.feedback_gain for coupling in self.couplings[1:]), 0.0)

    @property
    def period(self) -> int:
        """Time steps in a sweep."""
        return period_of(self.schedule, len(self.populations))

    def __post_init__(self):
        _check_settings(self)
        _check_normalisation(self)
        for coupling in (*self.couplings, self.readout):
            _check_arrays(coupling)
        _check_chain(self)


def _check_settings(graph: EPGraph):
    if graph.schedule not in SCHEDULES:
        raise Refusal("unknown schedule", where="schedule", got=repr(graph.schedule), allowed=", ".join(SCHEDULES),
                      remedy="name one of these schedules")
    if graph.steps < 1 or not graph.tolerance > 0:
        raise Refusal("relaxation settings out of range", where="steps, tolerance",
                      got=f"{graph.steps}, {graph.tolerance}", allowed="steps >= 1, tolerance > 0",
                      remedy="correct the network's spec")
    for population in graph.populations:
        for name, value, unbounded in (("slope", population.slope, False), ("ceiling", population.ceiling, True)):
            if not (1 / LARGEST_SLOPE <= value <= LARGEST_SLOPE or (unbounded and value == float("inf"))):
                raise Refusal(f"{name} out of range", where=f"layer {population.name}", got=value,
                              allowed=f"{1 / LARGEST_SLOPE:g} to {LARGEST_SLOPE:g}{', or inf' if unbounded else ''}",
                              remedy="correct the network's spec")
    _check_feedback(graph)


def _check_feedback(graph: EPGraph):
    gains = [coupling.feedback_gain for coupling in graph.couplings[1:]]
    for coupling, gain in zip(graph.couplings[1:], gains):
        if not (gain == 0 or 1 / LARGEST_GAIN <= gain <= LARGEST_GAIN):
            raise Refusal("feedback gain out of range", where=f"layer {coupling.name}", got=gain,
                          allowed=f"0, or {1 / LARGEST_GAIN:g} to {LARGEST_GAIN:g}",
                          remedy="correct the network's spec")
    if not graph.has_feedback and any(gains):
        raise Refusal("a network with feedback has more to do than one pass", where="schedule", got=graph.schedule,
                      allowed="sequential where all feedback gains are 0", remedy="choose synchronous or alternating")


def _check_normalisation(graph: EPGraph):
    channels, mean, scale = graph.image_shape[0], graph.mean.astype(np.float64), graph.scale.astype(np.float64)
    if mean.shape != (channels,) or scale.shape != (channels,):
        raise Refusal("normalisation does not fit the image", where="mean, scale",
                      got=f"shapes {mean.shape}, {scale.shape}", allowed=f"({channels},) each",
                      remedy="give one mean and one scale per channel")
    if not np.all((scale > 0) & (scale <= LARGEST_SCALE) & (np.abs(mean) + 1 <= LARGEST_PIXEL * scale)):
        raise Refusal("normalisation out of range", where="mean, scale",
                      got=f"mean up to {np.abs(mean).max():g}, scale {scale.min():g} to {scale.max():g}",
                      allowed=f"scale > 0, at most {LARGEST_SCALE:g}; pixels within {LARGEST_PIXEL:g} after it",
                      remedy="correct the network's spec")


def _check_arrays(coupling: Coupling):
    where = f"layer {coupling.name}"
    if coupling.weight.ndim != 4 or coupling.bias.shape != coupling.weight.shape[:1]:
        raise Refusal("weight and bias shapes do not fit", where=where,
                      got=f"weight {coupling.weight.shape}, bias {coupling.bias.shape}",
                      allowed="(C_out, C_in, k_h, k_w) and (C_out,)", remedy="correct the checkpoint")
    for name, array in (("weight", coupling.weight), ("bias", coupling.bias)):
        bad = array.size - int(np.isfinite(array).sum())
        if bad:
            raise Refusal(f"{name} is not finite", where=where, got=f"{bad} NaN or infinite values of {array.size}",
                          allowed="finite numbers", remedy="train again or load an earlier checkpoint")
        largest = float(np.abs(array).max(initial=0))
        if largest > LARGEST or (name == "weight" and 0 < largest < SMALLEST):
            raise Refusal(f"{name} is out of range", where=where, got=f"largest magnitude {largest:.3g}",
                          allowed=f"up to {LARGEST:g}" if name == "bias" else f"{SMALLEST:g} to {LARGEST:g}, or 0",
                          remedy="train again or load an earlier checkpoint")
    if coupling.pool not in (1, 2) or coupling.padding < 0 or coupling.stride < 1:
        raise Refusal("unsupported pooling, padding or stride", where=where,
                      got=f"pool {coupling.pool}, padding {coupling.padding}, stride {coupling.stride}",
                      allowed="pool 1 or 2, padding >= 0, stride >= 1", remedy="use max-pooling by 2 or none")


def _check_chain(graph: EPGraph):
    if not graph.populations or len(graph.populations) != len(graph.couplings):
        raise Refusal("populations and couplings do not pair up", where="graph",
                      got=f"{len(graph.populations)} populations, {len(graph.couplings)} couplings",
                      allowed="one coupling below each population", remedy="lower a chain-shaped EP network")
    pre = graph.image_shape
    for population, coupling in zip(graph.populations, graph.couplings):
        _check_link(coupling, pre, population.shape)
        pre = population.shape
    _check_link(graph.readout, pre, (graph.classes, 1, 1))


def _check_link(coupling: Coupling, pre: tuple, post: tuple):
    if coupling.pre != pre or coupling.weight.shape[1] != pre[0] or coupling.post != post:
        raise Refusal("shapes do not chain", where=f"layer {coupling.name}",
                      got=f"{coupling.pre} -> {coupling.post} with weight {coupling.weight.shape}",
                      allowed=f"{pre} -> {post}", remedy="check channels, kernel, padding and pooling of this layer")
