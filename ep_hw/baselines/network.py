"""A trained feed-forward network: what a checkpoint of kind bp, adv or vit holds."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import nn

from ep_hw.baselines.modules import VisionTransformer, convolutional
from ep_hw.fields import Count, Finite, ImageShape, Padding, Positive
from mapping.errors import Refusal
from simulators.module import Interface, ModuleMachine, ModuleProgram


class BaselineSpec(BaseModel):
    """What every baseline says of its images. `scale` divides the centred image, as in `NetworkSpec`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_shape: ImageShape
    classes: int = Field(ge=2)
    mean: tuple[Finite, ...]
    scale: tuple[Positive, ...]

    @model_validator(mode="after")
    def _normalisation(self):
        if not len(self.mean) == len(self.scale) == self.image_shape[0]:
            raise ValueError("mean and scale must have one entry per image channel each")
        return self


class CNNSpec(BaselineSpec):
    """A convolutional network with batch norm, layer by layer as large as an EP-CNN of the same channels."""

    architecture: Literal["cnn"] = "cnn"
    channels: tuple[Count, ...] = Field(min_length=1)
    paddings: tuple[Padding, ...]
    pools: tuple[Count, ...]
    kernel: Count = 3

    @model_validator(mode="after")
    def _lengths(self):
        if not len(self.channels) == len(self.paddings) == len(self.pools):
            raise ValueError("channels, paddings and pools must have one entry per layer each")
        return self

    @property
    def size(self) -> str:
        return "x".join(map(str, self.channels))

    def build(self) -> nn.Module:
        return convolutional(self)


class ViTSpec(BaselineSpec):
    """A vision transformer: `layers` blocks of `heads` heads on tokens of `dim`, `hidden` units in each block's MLP."""

    architecture: Literal["vit"] = "vit"
    patch: Count
    layers: Count
    heads: Count
    dim: Count
    hidden: Count

    @model_validator(mode="after")
    def _divisible(self):
        if self.dim % self.heads or any(side % self.patch for side in self.image_shape[1:]):
            raise ValueError("dim must be a multiple of heads, and the image's sides of patch")
        return self

    @property
    def size(self) -> str:
        return f"{self.layers} layers, {self.heads} heads, dim {self.dim}"

    def build(self) -> nn.Module:
        return VisionTransformer(self)


@dataclass(eq=False)
class Baseline:
    """A feed-forward network under the interface of `EPNetwork`, as far as one without a fixed point has it."""

    machines: ClassVar[tuple[str, ...]] = ("reference",)

    spec: CNNSpec | ViTSpec
    module: nn.Module = field(repr=False)
    name: str = "network"
    provenance: dict = field(default_factory=dict, repr=False)

    @classmethod
    def initialise(cls, spec, seed: int) -> "Baseline":
        """torch's own initial weights, drawn from `seed` alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(spec, spec.build())

    @classmethod
    def of(cls, spec, tensors: dict[str, torch.Tensor], name: str, provenance: dict) -> "Baseline":
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
        net.module.eval()
        net.name, net.provenance = name, provenance
        return net

    def tensors(self) -> dict[str, torch.Tensor]:
        """What a checkpoint keeps."""
        return dict(self.module.state_dict())

    def machine(self, device: str = "cpu") -> ModuleMachine:
        """The module itself as a machine."""
        return ModuleMachine(self.module, self.spec.image_shape, self.spec.classes, device=device)

    def programs(self, names) -> dict[str, ModuleProgram]:
        """See `EPNetwork.programs`.

        Raises:
            Refusal: any machine but the reference.
        """
        for name in names:
            if name != "reference":
                self.lower()
        return {name: ModuleProgram(self.module, Interface(self.spec.image_shape, self.spec.classes)) for name in names}

    def lower(self):
        """Never: there is no EPGraph of a feed-forward network.

        Raises:
            Refusal: always.
        """
        raise Refusal("a feed-forward network has no fixed point to map", where=self.name,
                      got=f"{self.spec.architecture}, {self.spec.size}", allowed="EP networks; this one runs on the "
                      "machine reference only", remedy="leave --on out, or name an EP network ('ep-hw models')")
