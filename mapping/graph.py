"""EPGraph: the contract between a trained network and every machine.

An EP-CNN with layers n = 1..L relaxes the states s_n in [0, 1] to a fixed point of

    a_n = w_n * s_{n-1} + b_n,   (u_n, I_n) = maxpool(a_n),   s_0 = (image - mean) / scale      (1)
    g_n = u_n + conv_transpose(unpool(s_{n+1}, I_{n+1}), w_{n+1})                               (2)
    s_n <- clamp(slope_n g_n, 0, 1)                                                            (3)
    logits = w_out * s_L + b_out                                                               (4)

The graph holds numpy arrays only: no torch, no hardware.
Source: equilibrium propagation for convolutional networks, Ernoult et al. 2019 and Laborieux et al. 2021.
"""

from dataclasses import dataclass

import numpy as np

from mapping.errors import Refusal

SCHEDULES = ("synchronous", "alternating")
LARGEST, SMALLEST = 1e16, 1e-15   # of a layer's largest weight: squares and sums then stay within float32 everywhere
LARGEST_PIXEL, LARGEST_SCALE, LARGEST_SLOPE = 1e3, 1e6, 1e6   # for the same reason


@dataclass(frozen=True)
class Population:
    """Neurons of one layer: states s of `shape` (C, H, W) in [0, 1], activation clamp(slope g, 0, 1)."""

    name: str
    shape: tuple[int, int, int]
    slope: float


@dataclass(frozen=True, eq=False)
class Coupling:
    """Weights between two layers, used in both directions.

    Attributes:
        weight: (C_out, C_in, k_h, k_w), float32. A dense layer is a kernel as large as its input map.
        bias: (C_out,), float32, added to the convolution.
        padding: zeros around the input map, in pixels.
        pool: side of the square max-pool window, 1 (none) or 2.
        pre: shape (C_in, H, W) of the map it reads.
    """

    name: str
    weight: np.ndarray
    bias: np.ndarray
    padding: int
    pool: int
    pre: tuple[int, int, int]

    @property
    def unpooled(self) -> tuple[int, int, int]:
        """Shape (C_out, H', W') of the convolution's output, before pooling."""
        c_out, _, k_h, k_w = self.weight.shape
        _, h, w = self.pre
        return c_out, h + 2 * self.padding - k_h + 1, w + 2 * self.padding - k_w + 1

    @property
    def post(self) -> tuple[int, int, int]:
        """Shape (C_out, H', W') of the map it writes, after pooling."""
        c, h, w = self.unpooled
        return c, h // self.pool, w // self.pool


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
        schedule: "synchronous" or "alternating" (odd layers, then even layers: two steps a sweep).
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

    @property
    def classes(self) -> int:
        return self.readout.weight.shape[0]

    def __post_init__(self):
        _check_settings(self)
        _check_normalisation(self)
        for coupling in (*self.couplings, self.readout):
            _check_arrays(coupling)
        _check_chain(self)


def _check_settings(graph: EPGraph):
    if graph.schedule not in SCHEDULES:
        raise Refusal("unknown schedule", where="schedule", got=repr(graph.schedule), allowed=", ".join(SCHEDULES),
                      remedy="name one of the two schedules")
    if graph.steps < 1 or not graph.tolerance > 0:
        raise Refusal("relaxation settings out of range", where="steps, tolerance",
                      got=f"{graph.steps}, {graph.tolerance}", allowed="steps >= 1, tolerance > 0",
                      remedy="correct the network's spec")
    for population in graph.populations:
        if not 1 / LARGEST_SLOPE <= population.slope <= LARGEST_SLOPE:
            raise Refusal("slope out of range", where=f"layer {population.name}", got=population.slope,
                          allowed=f"{1 / LARGEST_SLOPE:g} to {LARGEST_SLOPE:g}", remedy="correct the network's spec")


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
    if coupling.pool not in (1, 2) or coupling.padding < 0:
        raise Refusal("unsupported pooling or padding", where=where,
                      got=f"pool {coupling.pool}, padding {coupling.padding}", allowed="pool 1 or 2, padding >= 0",
                      remedy="use max-pooling by 2 or none")


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
