"""A trained feed-forward network: what a checkpoint of kind bp, adv or vit holds."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import nn

import mapping
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.networks.baselines.layouts import convolutional_layout, transformer_layout
from ep_hw.networks.baselines.modules import VisionTransformer, convolutional
from ep_hw.networks.images import training_images
from ep_hw.networks.lowering import lower
from ep_hw.networks.shapes import ConvolutionalSpec, ImageSpec, TransformerSpec
from mapping.crossbar.target import CrossbarTarget
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.names import in_a_line
from mapping.sealed import Layout
from mapping.targets import REFERENCE, Target
from simulators.crossbar.recording import Recording, record
from simulators.crossbar.tiled import put_on_tiles
from simulators.module import AnyProgram, Interface, ModuleMachine, ModuleProgram

EXAMPLES = 256   # training images that size hardware


class CNNSpec(ConvolutionalSpec):
    """A convolutional network with batch norm, layer by layer as large as an EP-CNN of the same channels."""

    architecture: Literal["cnn"] = "cnn"

    def layout(self) -> Layout:
        return convolutional_layout(self)

    def build(self) -> nn.Module:
        """The network with initial weights."""
        return convolutional(self)


class ModuleSpec(ImageSpec):
    """A module of a user, which normalises images itself. It is in no checkpoint."""

    architecture: Literal["module"] = "module"


class ViTSpec(TransformerSpec):
    """A vision transformer."""

    architecture: Literal["vit"] = "vit"

    def layout(self) -> Layout:
        return transformer_layout(self)

    def build(self) -> nn.Module:
        return VisionTransformer(self)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A feed-forward network under the interface of `EPNetwork`.

    Attributes:
        spec: shape of the module.
        module: images (B, C, H, W) in [0, 1] to logits (B, K).
        name: see `EPNetwork`.
        provenance: see `EPNetwork`.
        data_source: where the training images are that size hardware for it.
    """

    machines: ClassVar[tuple[str, ...]] = ("reference",)

    spec: CNNSpec | ViTSpec | ModuleSpec
    module: nn.Module
    name: str = "network"
    provenance: dict = field(default_factory=dict)
    data_source: DataSource = DEFAULT_SOURCE

    def __repr__(self):
        return in_a_line(self, f"{self.name} ({self.spec.architecture}): images of "
                               f"{'x'.join(map(str, self.spec.image_shape))}, {self.spec.classes} classes")

    @classmethod
    def initialise(cls, spec: CNNSpec | ViTSpec, seed: int) -> "Baseline":
        """torch's own initial weights, which follow from `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(spec, spec.build())

    @classmethod
    def of(cls, spec: CNNSpec | ViTSpec, tensors: dict[str, torch.Tensor], name: str, provenance: dict) -> "Baseline":
        """From a checkpoint's tensors.

        Raises:
            Refusal: weights that are not finite, naming the tensor.
        """
        for key, tensor in tensors.items():
            if not tensor.isfinite().all():
                raise Refusal("tensor is not finite", where=f"layer {key}", got="NaN or infinite values",
                              allowed="finite numbers", remedy="train again or load an earlier checkpoint")
        net = cls.initialise(spec, 0)
        net.module.load_state_dict(tensors)
        return cls(spec, net.module.eval(), name, provenance)

    @property
    def data(self) -> str:
        """Name of the data set that it was trained on."""
        return self.provenance["data"]["name"]

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps."""
        return dict(self.module.state_dict())

    def machine(self, device: str = "cpu") -> ModuleMachine:
        """The module itself as a machine."""
        return ModuleMachine(self.module, self.spec.image_shape, self.spec.classes, device=device)

    def calibrated(self, data_source: DataSource = DEFAULT_SOURCE) -> "Baseline":
        """The network that finds the images for its hardware there."""
        return replace(self, data_source=data_source)

    def calibrated_on(self, data_source: DataSource) -> "Baseline":
        """See `calibrated`: it brings no images of its own."""
        return self.calibrated(data_source)

    def programs(self, targets: Iterable[Target]) -> dict[str, AnyProgram]:
        """Name -> the module itself for the reference, and its graph compiled for any other target.

        Of what has no graph, as a transformer, crossbars hold the convolutions and dense layers.

        Raises:
            Refusal: the module has no graph (see `lower`), or a machine cannot hold it.
        """
        return {str(target): self._program(target) for target in targets}

    def _program(self, target: Target) -> AnyProgram:
        if str(target) == REFERENCE:
            return ModuleProgram(self.module, Interface(self.spec.image_shape, self.spec.classes))
        if isinstance(target, CrossbarTarget) and not self._has_graph:
            return put_on_tiles(self._recording, target)
        return mapping.compile(self.lower(), target)

    @cached_property
    def _has_graph(self) -> bool:
        """Whether it is a chain of layers; of a user's module nobody knows before it is tried."""
        if not isinstance(self.spec, ModuleSpec):
            return isinstance(self.spec, CNNSpec)
        training_images(self, self.data_source, EXAMPLES)   # whose refusal says nothing of the module
        try:
            return bool(self._graph)
        except Refusal:
            return False

    def lower(self) -> EPGraph:
        """The module's graph (`ep_hw.lower`), with `EXAMPLES` training images to size hardware by.

        Raises:
            Refusal: a module that is no chain of layers, or its data are not there.
        """
        return self._graph

    @cached_property
    def _recording(self) -> Recording:
        return record(self.module, training_images(self, self.data_source), self.spec.classes)

    @cached_property
    def _graph(self) -> EPGraph:
        return lower(self.module, training_images(self, self.data_source, EXAMPLES))
