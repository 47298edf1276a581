"""The network of a key map: its layers joined as `lowering` joins those of a module, with feedback."""

import math
from dataclasses import replace
from functools import reduce

import torch
from torch import Tensor

from ep_hw.data.registry import data_set
from ep_hw.networks.exchange.keys import KeyMap, Pool
from ep_hw.networks.exchange.layers import Layer
from ep_hw.networks.lowering.chain import (
    Activation,
    AveragePool,
    Chain,
    Convolution,
    Dense,
    Flatten,
    MaxPool,
    Operation,
)
from ep_hw.networks.lowering.lower import network, unseen
from ep_hw.networks.network import EPNetwork


def network_of_map(keys: KeyMap, layers: list[Layer]) -> EPNetwork:
    """The network of a map's layers, in float64.

    Raises:
        ValueError: it is none that a checkpoint holds.
    """
    settings = keys.model_dump(include={"slope", "mean", "scale", "schedule", "steps", "tolerance"})
    known = data_set(keys.data)
    return replace(network(_chain(keys, layers), **settings), provenance=unseen(known.name, known.source))


def _chain(keys: KeyMap, layers: list[Layer]) -> Chain:
    """The layers joined; what reads a readout inside the energy is the readout."""
    operations: list[Operation] = []
    for (weight, bias), padding, stride, kind, side in zip(layers, keys.paddings, keys.strides, keys.kinds, keys.pools):
        operations += [Convolution(weight, bias, padding, (stride, stride)), *_pool(kind, side), Activation(1.0)]
    for weight, bias in layers[len(keys.paddings):-1]:
        operations += [Flatten(), Dense(weight, bias), Activation(1.0)]
    operations += [Flatten(), *_readout(keys, *layers[-1])]
    return reduce(lambda chain, operation: operation.join(chain), operations, Chain(keys.image_shape))


def _pool(kind: Pool, side: int) -> list[Operation]:
    if side == 1:
        return []
    if kind == "average":
        return [AveragePool((side, side), (side, side))]
    if side != 2:
        raise ValueError(f"max pools of {side}x{side}, where 2x2 are possible")
    return [MaxPool()]


def _readout(keys: KeyMap, weight: Tensor, bias: Tensor) -> list[Operation]:
    """The readout of a network: one inside the energy is a layer whose states are read as they are.

    A linear state is the difference of two that are not negative, of weights W and -W; scaled by the root of the slope
    on either side, they drive what is below as the one state did.
    """
    if keys.readout == "outside":
        return [Dense(weight, bias)]
    one = torch.eye(len(weight), dtype=torch.float64)
    if not keys.is_linear:
        return [Dense(weight, bias), Activation(1.0), Dense(one, None)]
    pair = torch.cat([one, -one]) / math.sqrt(keys.slope)
    return [Dense(pair @ weight.double(), pair @ bias.double()), Activation(), Dense(pair.T, None)]
