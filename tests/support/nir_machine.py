"""A NIR graph run node by node, by what NIR says of each node and by what metadata say of LI's clamp."""

import nir
import torch
import torch.nn.functional as F


def rest(graph: nir.NIRGraph, images: torch.Tensor, steps: int) -> dict[str, torch.Tensor]:
    """Value of every node once so many synchronous steps were taken from states of 0, for images (B, C, H, W)."""
    states = {name: torch.zeros(len(images), *node.r.shape, dtype=images.dtype)
              for name, node in graph.nodes.items() if isinstance(node, nir.LI)}
    for _ in range(steps):
        states = {name: _clamped(graph.nodes[name], _heard(graph, name, states, images)) for name in states}
    return {name: _value(graph, name, states, images) for name in graph.nodes}


def _clamped(node, current):
    low, high = node.metadata["clamp"].tolist()
    return (torch.tensor(node.r) * current).clamp(low, high)   # v at rest, with v_leak = 0


def _heard(graph, name, states, images):
    return sum(_value(graph, a, states, images) for a, b in graph.edges if b == name)


def _value(graph, name, states, images):
    node = graph.nodes[name]
    if name in states:
        return states[name]
    if isinstance(node, nir.Input):
        return images
    heard = _heard(graph, name, states, images)
    if isinstance(node, nir.Conv2d):
        weight, bias = (torch.tensor(a, dtype=images.dtype) for a in (node.weight, node.bias))
        return F.conv2d(heard, weight, bias, tuple(node.stride), tuple(node.padding))
    return heard.flatten(1) if isinstance(node, nir.Flatten) else heard
