"""What each of torch's modules and functions is in a chain of layers; readers take the arguments that it takes."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ep_hw.networks.lowering.chain import (
    Activation,
    Affine,
    AveragePool,
    Averages,
    Convolution,
    Dense,
    Flatten,
    MaxPool,
    Operation,
)
from ep_hw.networks.lowering.layer import Pair

VALUE = "the value that runs through the chain"   # its place among a function's arguments
Sides = int | tuple[int, ...] | list[int]
Read = list[Operation]


def is_normalisation(module: nn.Module) -> bool:
    """Whether it is torchvision's, whose import takes longer than everything here."""
    return type(module).__name__ == "Normalize" and type(module).__module__.startswith("torchvision.transforms")


def read_module(module: nn.Module) -> Read:
    """What a module of torch does in evaluation mode.

    Raises:
        ValueError: nothing that has a place in a chain, or it has a hook, whose code nobody sees.
    """
    if module._forward_hooks or module._forward_pre_hooks:
        raise ValueError("hooks on its forward pass")
    if is_normalisation(module):
        mean, scale = (torch.tensor(numbers, dtype=torch.float64) for numbers in (module.mean, module.std))
        return [Affine(1 / scale, -mean / scale)]
    for kind, read in MODULES.items():
        if isinstance(module, kind):
            return read(module)
    raise ValueError("no layer of a chain")


def _convolution(x: object, weight: Tensor, bias: Tensor | None = None, stride: Sides = 1,
                 padding: Sides | str = 0, dilation: Sides = 1, groups: int = 1, mode: str = "zeros") -> Read:
    sides = _padding(padding, weight)
    if groups != 1:
        raise ValueError(f"groups of channels ({groups})")
    if _pair(dilation) != (1, 1):
        raise ValueError(f"a dilation of {dilation}")
    if sides[0] != sides[1]:
        raise ValueError(f"asymmetric padding of {sides[0]} and {sides[1]} pixels")
    if mode != "zeros" and any(sides):
        raise ValueError(f"padding with something else than zeros ({mode})")
    return [Convolution(weight, bias, sides[0], _pair(stride))]


def _padding(padding: Sides | str, weight: Tensor) -> Pair:
    if not isinstance(padding, str):
        return _pair(padding)
    if padding == "same" and any(side % 2 == 0 for side in weight.shape[2:]):
        raise ValueError("asymmetric padding of an even kernel to the same size")
    return (0, 0) if padding == "valid" else (weight.shape[2] // 2, weight.shape[3] // 2)


def _dense(x: object, weight: Tensor, bias: Tensor | None = None) -> Read:
    return [Dense(weight, bias)]


def _batch_norm(x: object, mean: Tensor | None, variance: Tensor | None, weight: Tensor | None = None,
                bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Read:
    if training or mean is None or variance is None:
        raise ValueError("statistics of the batch in evaluation mode")
    scale = (variance.double() + eps).rsqrt() * (1 if weight is None else weight.double())
    return [Affine(scale, (0 if bias is None else bias.double()) - mean.double() * scale)]


def _max_pool(x: object, kernel_size: Sides, stride: Sides | None = None, padding: Sides = 0, dilation: Sides = 1,
              ceil_mode: bool = False, return_indices: bool = False) -> Read:
    sides, strides = _pair(kernel_size), _pair(stride or kernel_size)
    if not sides == strides or sides not in ((1, 1), (2, 2)) or _pair(padding) != (0, 0) or _pair(dilation) != (1, 1):
        raise ValueError(f"windows of {sides}, strides of {strides}, padding {padding}, dilation {dilation}, where "
                         "windows of 2 by 2 side by side are possible")
    _check_plain(ceil_mode, return_indices)
    return [MaxPool()] if sides == (2, 2) else []


def _average_pool(x: object, kernel_size: Sides, stride: Sides | None = None, padding: Sides = 0,
                  ceil_mode: bool = False, count_include_pad: bool = True,
                  divisor_override: int | None = None) -> Read:
    if _pair(padding) != (0, 0) or divisor_override is not None:
        raise ValueError("an average pool with padding or a divisor of its own")
    _check_plain(ceil_mode)
    return [AveragePool(_pair(kernel_size), _pair(stride or kernel_size))]


def _check_plain(ceil_mode: bool, return_indices: bool = False):
    if ceil_mode or return_indices:
        raise ValueError("a pool that keeps the rest at the edge" if ceil_mode else "a pool that tells its winners")


def _adaptive_average(x: object, output_size: Sides | tuple[int | None, ...] | None) -> Read:
    places = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    return [Averages((places[0], places[-1]))]


def _mean(x: object, dim: Sides, keepdim: bool = False) -> Read:
    if sorted(axis % 4 for axis in (dim if isinstance(dim, tuple | list) else (dim,))) != [2, 3]:
        raise ValueError(f"a mean over {dim}, where one over the whole map is possible")
    return [Averages(), *([] if keepdim else [Flatten()])]


def _clamp(x: object, min: object = None, max: object = None, inplace: bool = False) -> Read:
    if min != 0 or not (max is None or (isinstance(max, int | float) and max > 0)):
        raise ValueError(f"clamped to {min} to {max}, where 0 to a number is possible")
    return [Activation(math.inf if max is None else float(max))]


def _hardtanh(x: object, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Read:
    return _clamp(x, min_val, max_val)


def _relu(x: object, inplace: bool = False) -> Read:
    return [Activation()]


def _relu6(x: object, inplace: bool = False) -> Read:
    return [Activation(6.0)]


def _flatten(x: object, start_dim: int = 0, end_dim: int = -1) -> Read:
    if start_dim != 1 or end_dim not in (-1, 3):
        raise ValueError(f"axes {start_dim} to {end_dim}, where 1 to -1 are possible")
    return [Flatten()]


def _view(x: object, *shape: object) -> Read:
    sides = shape[0] if len(shape) == 1 else shape
    if not isinstance(sides, tuple | list | torch.Size) or len(sides) != 2:
        raise ValueError("a shape that is no row of features for each image")
    return [Flatten()]


def _dropout(x: object, p: float = 0.5, training: bool = True, inplace: bool = False) -> Read:
    if training and p:
        raise ValueError("dropout in evaluation mode")
    return []


def _same(x: object, *args: object, **kwargs: object) -> Read:
    return []


def _plus(x: object, y: object) -> Read:
    return [Affine(torch.ones(1), _constant(x, y))]


def _minus(x: object, y: object) -> Read:
    sign = 1.0 if x is VALUE else -1.0
    return [Affine(torch.full((1,), sign), -sign * _constant(x, y))]


def _times(x: object, y: object) -> Read:
    return [Affine(_constant(x, y), torch.zeros(1))]


def _divided(x: object, y: object) -> Read:
    if x is not VALUE:
        raise ValueError("a number divided by a value")
    return [Affine(1 / _constant(x, y), torch.zeros(1))]


def _constant(x: object, y: object) -> Tensor:
    """The one of two operands that is no value: a number, or one a channel.

    Raises:
        ValueError: both are values, or it is more than that.
    """
    other = torch.as_tensor(y if x is VALUE else x, dtype=torch.float64) if (x is VALUE) != (y is VALUE) else None
    if other is None:
        raise ValueError("two values")
    if other.numel() > 1 and other.shape[-3:] != (other.numel(), 1, 1):
        raise ValueError(f"numbers of shape {tuple(other.shape)}, where one or one a channel (C, 1, 1) are possible")
    return other.reshape(-1)


def _pair(sides: Sides) -> Pair:
    both = tuple(sides) if isinstance(sides, tuple | list) else (sides, sides)
    return both[0], both[-1]


MODULES: dict[type[nn.Module], Callable[[Any], Read]] = {
    nn.Conv2d: lambda m: _convolution(m, m.weight, m.bias, m.stride, m.padding, m.dilation, m.groups, m.padding_mode),
    nn.Linear: lambda m: _dense(m, m.weight, m.bias),
    **dict.fromkeys((nn.BatchNorm2d, nn.BatchNorm1d), lambda m: _batch_norm(
        m, m.running_mean, m.running_var, m.weight, m.bias, eps=m.eps)),
    nn.ReLU: _relu,
    nn.Hardtanh: lambda m: _clamp(m, m.min_val, m.max_val),   # ReLU6 is one
    nn.MaxPool2d: lambda m: _max_pool(m, m.kernel_size, m.stride, m.padding, m.dilation, m.ceil_mode, m.return_indices),
    nn.AvgPool2d: lambda m: _average_pool(m, m.kernel_size, m.stride, m.padding, m.ceil_mode, m.count_include_pad,
                                          m.divisor_override),
    nn.AdaptiveAvgPool2d: lambda m: _adaptive_average(m, m.output_size),
    nn.Flatten: lambda m: _flatten(m, m.start_dim, m.end_dim),
    **dict.fromkeys((nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Identity), _same),
}
METHODS: dict[object, Callable[..., Read]] = {
    "relu": _relu, "relu_": _relu, "clamp": _clamp, "clamp_": _clamp, "clip": _clamp, "flatten": _flatten,
    "view": _view, "reshape": _view, "mean": _mean, "contiguous": _same, "add": _plus, "sub": _minus, "mul": _times,
    "div": _divided}
FUNCTIONS: dict[object, Callable[..., Read]] = {
    F.conv2d: _convolution, F.linear: _dense, F.batch_norm: _batch_norm, F.relu: _relu, torch.relu: _relu,
    F.relu6: _relu6, F.hardtanh: _hardtanh, torch.clamp: _clamp, torch.clip: _clamp, F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool, F.avg_pool2d: _average_pool, F.adaptive_avg_pool2d: _adaptive_average,
    torch.mean: _mean, torch.flatten: _flatten, torch.reshape: _view, F.dropout: _dropout, F.dropout2d: _dropout,
    operator.add: _plus, operator.sub: _minus, operator.mul: _times, operator.truediv: _divided, torch.add: _plus,
    torch.sub: _minus, torch.mul: _times, torch.div: _divided}
