"""An EP-CNN with trainable tensors, and its lowering to an EPGraph."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import model_validator

import mapping
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.networks.images import training_images
from ep_hw.networks.shapes import ConvolutionalSpec
from ep_hw.threads import threads
from mapping.errors import Refusal
from mapping.fields import FeedbackGains, PerLayer, Positive, Steps
from mapping.graph import SEQUENTIAL, Activity, Coupling, EPGraph, Population
from mapping.names import in_a_line
from mapping.program import Program
from mapping.sealed import Layout
from mapping.targets import Target
from simulators.reference import FloatProjection, FloatSubstrate, ReferenceMachine


class NetworkSpec(ConvolutionalSpec):
    """Shape and dynamics of an EP-CNN, as the checkpoint's header keeps them; `scale` is three standard deviations.

    Attributes:
        slope: of the activation clamp(slope x, 0, ceiling).
        ceilings: of the activations, one a layer, null for none; 1 if None.
        feedback_gain: gamma of every coupling (`mapping.graph` (2)), or one a layer, of which the first counts for
            nothing: it feeds no layer below. 1 the paper's network, 0 a feed-forward one.
        schedule: which layers a time step updates.
        steps: the longest free phase, in time steps (an alternating sweep is two).
        tolerance: residual at which an image's free phase ends.
    """

    slope: Positive = 0.5
    ceilings: PerLayer[Positive | None] | None = None
    feedback_gain: FeedbackGains = 1.0
    schedule: Literal["synchronous", "alternating"] = "alternating"
    steps: Steps = 200
    tolerance: Positive = 1e-3

    @model_validator(mode="after")
    def _ceilings(self) -> "NetworkSpec":
        if self.ceilings is not None and len(self.ceilings) != len(self.channels):
            raise ValueError("one ceiling a layer is needed, or none at all")
        return self

    @model_validator(mode="after")
    def _feedback_gains(self) -> "NetworkSpec":
        fed = self.feedback_gains[1:]
        if any(fed) and not all(fed):
            raise ValueError("either all feedback gains are 0 or none is")
        return self

    @property
    def feedback_gains(self) -> tuple[float, ...]:
        """One for each layer."""
        gain = self.feedback_gain
        return gain if isinstance(gain, tuple) else (gain,) * len(self.channels)

    def layout(self) -> Layout:
        layers = list(enumerate(layer_shapes(self)))
        return {f"weight{n}": ("float32", shape) for n, shape in layers} | {
            f"bias{n}": ("float32", shape[:1]) for n, shape in layers}


@dataclass(frozen=True, eq=False)
class EPNetwork:
    """An EP-CNN: its tensors are what training changes.

    Attributes:
        spec: shape and dynamics.
        weights: (C_out, C_in, k, k) of each layer, the readout last.
        biases: (C_out,) of each layer, the readout last.
        calibration: (N, C, H, W) training images that size a machine's converters when it is compiled.
        name: in results and files.
        provenance: the checkpoint's header (spec, recipe, data, accuracy) and the sha256 of its tensors; empty for a
            network made here.
    """

    machines: ClassVar[tuple[str, ...]] = ("reference", "loihi", "crossbar:pcm")  # evaluated where none is named

    spec: NetworkSpec
    weights: list[torch.Tensor]
    biases: list[torch.Tensor]
    calibration: torch.Tensor | None = None
    name: str = "network"
    provenance: dict = field(default_factory=dict)

    def __repr__(self):
        return in_a_line(self, f"{self.name} of {self.spec.size} channels: images of "
                               f"{'x'.join(map(str, self.spec.image_shape))}, {self.spec.classes} classes")

    @classmethod
    def initialise(cls, spec: NetworkSpec, seed: int, dtype: torch.dtype = torch.float32) -> "EPNetwork":
        """Uniform in +-1/sqrt(fan-in), torch's default for convolutions."""
        generator = torch.Generator().manual_seed(seed)
        weights: list[torch.Tensor] = []
        biases: list[torch.Tensor] = []
        for shape in layer_shapes(spec):
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            for store, size in ((weights, shape), (biases, shape[:1])):
                store.append((torch.rand(size, generator=generator, dtype=dtype) * 2 - 1) * bound)
        return cls(spec, weights, biases)

    @classmethod
    def of(cls, spec: NetworkSpec, tensors: dict[str, torch.Tensor], name: str, provenance: dict) -> "EPNetwork":
        """From a checkpoint's tensors.

        Raises:
            Refusal: weights that are not finite, naming the layer, or calibration images that are none.
        """
        _check_images(tensors.get("calibration"))
        depth = len(layer_shapes(spec))
        weights, biases = ([tensors[f"{kind}{n}"] for n in range(depth)] for kind in ("weight", "bias"))
        net = cls(spec, weights, biases, tensors.get("calibration"), name, provenance)
        net._graph()
        return net

    @property
    def data(self) -> str:
        """Name of the data set that it was trained on."""
        return self.provenance["data"]["name"]

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps."""
        named = {f"{kind}{n}": tensor for kind, tensors in (("weight", self.weights), ("bias", self.biases))
                 for n, tensor in enumerate(tensors)}
        return named if self.calibration is None else {**named, "calibration": self.calibration}

    def to(self, device: str) -> "EPNetwork":
        """The network with its weights on that device, in the memory format that is fastest there."""
        layout = torch.channels_last if device == "cuda" else torch.preserve_format
        return replace(self, weights=[w.to(device, memory_format=layout) for w in self.weights],
                       biases=[b.to(device) for b in self.biases])

    def cast(self, dtype: torch.dtype) -> "EPNetwork":
        """The network with its tensors in that type."""
        return replace(self, weights=[w.to(dtype) for w in self.weights], biases=[b.to(dtype) for b in self.biases])

    def calibrated(self, data_source: DataSource = DEFAULT_SOURCE) -> "EPNetwork":
        """The network with calibration images: its own, or those that training would have kept.

        Returns:
            The network as it was where its data are not there; machines with converters then refuse it.
        """
        if self.calibration is not None:
            return self
        try:
            return self.calibrated_on(data_source)
        except Refusal:
            return self

    def calibrated_on(self, data_source: DataSource) -> "EPNetwork":
        """The network with the first training images there as its calibration images.

        Raises:
            Refusal: they are not there, or do not fit.
        """
        return replace(self, calibration=training_images(self, data_source))

    def machine(self, device: str = "cpu") -> ReferenceMachine:
        """The digital reference."""
        return ReferenceMachine(self._graph(), device)

    def programs(self, targets: Iterable[Target]) -> dict[str, Program]:
        """Name -> the network compiled for that target.

        Raises:
            Refusal: a machine that cannot hold the network.
        """
        graph = self.lower()
        return {str(target): mapping.compile(graph, target) for target in targets}

    def substrate(self) -> FloatSubstrate:
        """Float arithmetic on this network's own tensors: an update of the weights is seen at once."""
        graph, like = self._graph(), self.weights[0]
        *projections, readout = (FloatProjection(w, b, c.window, c.feedback_gain) for w, b, c in
                                 zip(self.weights, self.biases, (*graph.couplings, graph.readout)))
        return FloatSubstrate(projections, readout, graph.populations,
                              like.new_tensor(self.spec.mean), like.new_tensor(self.spec.scale))

    @threads(1)
    def lower(self) -> EPGraph:
        """The EPGraph of this network (`mapping.graph` (1) to (4)), copied to numpy float32.

        Raises:
            Refusal: weights that are not finite or whose shapes do not chain, naming the layer.
        """
        graph = self._graph()
        return graph if self.calibration is None else replace(graph, activity=_record(graph, self.calibration))

    def _graph(self) -> EPGraph:
        """What `lower` gives, without the record of its calibration images."""
        spec, geometry = self.spec, self.spec.geometry()
        arrays = [(_numpy(w), _numpy(b)) for w, b in zip(self.weights, self.biases)]
        strides, ceilings = spec.strides or repeat(1), spec.ceilings or (1.0,) * len(geometry)
        couplings = tuple(
            Coupling(f"conv{n + 1}", w, b, spec.paddings[n], spec.pools[n], geometry[n][0], stride, gain)
            for n, ((w, b), stride, gain) in enumerate(zip(arrays[:-1], strides, spec.feedback_gains)))
        populations = tuple(
            Population(f"layer{n + 1}", post, spec.slope, math.inf if ceiling is None else ceiling)
            for n, ((*_, post), ceiling) in enumerate(zip(geometry, ceilings)))
        schedule, steps = (spec.schedule, spec.steps) if spec.feedback_gain else (SEQUENTIAL, len(populations))
        readout = Coupling("readout", *arrays[-1], 0, 1, geometry[-1][2])
        return EPGraph(spec.image_shape, np.array(spec.mean, np.float32), np.array(spec.scale, np.float32),
                       populations, couplings, readout, schedule, steps, spec.tolerance)


def layer_shapes(spec: NetworkSpec) -> list[tuple[int, int, int, int]]:
    """Weight shapes (C_out, C_in, k_h, k_w) of all layers, the readout last."""
    inputs = (spec.image_shape[0], *spec.channels[:-1])
    shapes = [(c_out, c_in, *kernel) for c_out, c_in, kernel in zip(spec.channels, inputs, spec.kernels)]
    return [*shapes, (spec.classes, *spec.geometry()[-1][2])]


def _check_images(images: torch.Tensor | None):
    if images is not None and not (len(images) and ((images >= 0) & (images <= 1)).all()):
        raise Refusal("calibration images are none", where="calibration", got=f"{len(images)}, not all in [0, 1]",
                      allowed="one or more, with values in [0, 1]", remedy="train again or load an earlier checkpoint")


def _record(graph: EPGraph, images: torch.Tensor) -> Activity:
    states = ReferenceMachine(graph).relax(images).states
    return Activity(_numpy(images), tuple(map(_numpy, states)))


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().contiguous().numpy().copy()
