"""A trained feed-forward network: what a checkpoint of kind bp, adv or vit holds."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NoReturn

import torch
from torch import nn

from ep_hw.networks.baselines.layouts import convolutional_layout, transformer_layout
from ep_hw.networks.baselines.modules import VisionTransformer, convolutional
from ep_hw.networks.shapes import ConvolutionalSpec, TransformerSpec
from mapping.errors import Refusal
from mapping.sealed import Layout
from mapping.targets import REFERENCE, Target
from simulators.module import Interface, ModuleMachine, ModuleProgram


class CNNSpec(ConvolutionalSpec):
    """A convolutional network with batch norm, layer by layer as large as an EP-CNN of the same channels."""

    architecture: Literal["cnn"] = "cnn"

    def layout(self) -> Layout:
        return convolutional_layout(self)

    def build(self) -> nn.Module:
        """The network with initial weights."""
        return convolutional(self)


class ViTSpec(TransformerSpec):
    """A vision transformer."""

    architecture: Literal["vit"] = "vit"

    def layout(self) -> Layout:
        return transformer_layout(self)

    def build(self) -> nn.Module:
        return VisionTransformer(self)


@dataclass(frozen=True, eq=False)
class Baseline:
    """A feed-forward network under the interface of `EPNetwork`, as far as one without a fixed point has it."""

    machines: ClassVar[tuple[str, ...]] = ("reference",)

    spec: CNNSpec | ViTSpec
    module: nn.Module = field(repr=False)
    name: str = "network"
    provenance: dict = field(default_factory=dict, repr=False)

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

    def programs(self, targets: Iterable[Target]) -> dict[str, ModuleProgram]:
        """See `EPNetwork.programs`.

        Raises:
            Refusal: any machine but the reference.
        """
        names = [str(target) for target in targets]
        if any(name != REFERENCE for name in names):
            self.lower()
        return {name: ModuleProgram(self.module, Interface(self.spec.image_shape, self.spec.classes)) for name in names}

    def lower(self) -> NoReturn:
        """Never: there is no EPGraph of a feed-forward network.

        Raises:
            Refusal: always.
        """
        raise Refusal("a feed-forward network has no fixed point to map", where=self.name,
                      got=f"{self.spec.architecture}, {self.spec.size}", allowed="EP networks; this one runs on the "
                      "machine reference only", remedy="leave --on out, or name an EP network ('ep-hw models')")
