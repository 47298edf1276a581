"""Small random networks and images for tests, and their files: `from networks import small_network`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ep_hw.networks.checkpoint import save_checkpoint
from ep_hw.networks.network import EPNetwork, NetworkSpec
from mapping.graph import Activity, EPGraph
from simulators.reference import ReferenceMachine

DIGITS = {"name": "digits", "split_seed": 0, "train": 0, "test": 360}   # what no network of ours was trained on


def small_spec(**changes) -> NetworkSpec:
    settings = {"image_shape": (1, 8, 8), "channels": (4, 6), "paddings": (1, 1), "pools": (2, 2), "classes": 10,
                "mean": (0.3,), "scale": (1.1,)}
    return NetworkSpec(**{**settings, **changes})


def small_network(seed: int = 0, gain: float = 3.0, **changes) -> EPNetwork:
    """A random network whose states are busy: neither all 0 nor all 1."""
    net = EPNetwork.initialise(small_spec(**changes), seed)
    for weight in net.weights:
        weight.mul_(gain)
    shape = net.spec.image_shape
    return replace(net, calibration=torch.rand(16, *shape, generator=seeded(seed + 1)))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(batch: int, shape=(1, 8, 8), seed: int = 7, dtype=torch.float32):
    return torch.rand(batch, *shape, generator=seeded(seed), dtype=dtype)


def calibrated(graph: EPGraph, count: int = 6) -> EPGraph:
    """The graph with its own states on random images as activity."""
    images = random_images(count, graph.image_shape)
    states = ReferenceMachine(graph).relax(images).states
    return replace(graph, activity=Activity(images.numpy(), tuple(s.numpy() for s in states)))


def saved(net, folder: Path, name: str = "small", *, data: Mapping = DIGITS, recipe=(), accuracy=()) -> Path:
    """The checkpoint of a network that is called `name`, in a file of its name."""
    path = folder / f"{name}.safetensors"
    save_checkpoint(replace(net, name=name), path, recipe=dict(recipe), data=dict(data), accuracy=dict(accuracy))
    return path
