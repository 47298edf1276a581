"""The baselines' architectures as torch modules: images in [0, 1] to logits, normalisation included."""

import math
from itertools import repeat

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ep_hw.networks.shapes import ConvolutionalSpec, TransformerSpec

EMBEDDING_SPREAD = 0.02   # standard deviation of a vision transformer's initial class token and positions


class Normalise(nn.Module):
    """(image - mean) / scale by channel; both come from the spec, not from the checkpoint's tensors."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], scale: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.scale


def convolutional(spec: ConvolutionalSpec) -> nn.Sequential:
    """Convolution, batch norm, ReLU and max-pool a layer, with the EP-CNN's channels; a dense readout.

    Channels are last in memory, where pooling and small convolutions are faster on the CPU.
    """
    layers: list[nn.Module] = [Normalise(spec.mean, spec.scale)]
    inputs = spec.image_shape[0]
    sizes = zip(spec.channels, spec.kernels, spec.strides or repeat(1), spec.paddings, spec.pools)
    for channels, kernel, stride, padding, pool in sizes:
        layers += [nn.Conv2d(inputs, channels, kernel, stride, padding, bias=False), nn.BatchNorm2d(channels),
                   nn.ReLU(), *([nn.MaxPool2d(pool)] if pool > 1 else [])]
        inputs = channels
    readout = nn.Linear(math.prod(spec.geometry()[-1][2]), spec.classes)
    return nn.Sequential(*layers, nn.Flatten(), readout).to(memory_format=torch.channels_last)


class VisionTransformer(nn.Module):
    """Patches of p x p pixels, a class token, learnt positions, pre-norm blocks, a dense readout of the token.

    Source: Dosovitskiy et al. 2021.
    """

    def __init__(self, spec: TransformerSpec):
        super().__init__()
        self.normalise = Normalise(spec.mean, spec.scale)
        self.patches = nn.Conv2d(spec.image_shape[0], spec.dim, spec.patch, stride=spec.patch)
        self.token = nn.Parameter(EMBEDDING_SPREAD * torch.randn(1, 1, spec.dim))
        self.positions = nn.Parameter(EMBEDDING_SPREAD * torch.randn(1, spec.tokens, spec.dim))
        self.blocks = nn.Sequential(*(Block(spec.dim, spec.heads, spec.hidden) for _ in range(spec.layers)))
        self.norm, self.readout = nn.LayerNorm(spec.dim), nn.Linear(spec.dim, spec.classes)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(self.normalise(images)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), patches], 1) + self.positions
        return self.readout(self.norm(self.blocks(tokens)[:, 0]))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), on tokens (B, N, D).

    Names of classes are part of a module's digest, and so of the keys of its cells.
    """

    def __init__(self, dim: int, heads: int, hidden: int):
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query_key_value, self.mix = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._attend(self.before_attention(x))
        return x + self.mlp(self.before_mlp(x))

    def _attend(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        query, key, value = self.query_key_value(x).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.mix(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(b, n, d))
