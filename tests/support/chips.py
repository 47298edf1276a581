"""Crossbar machines that tests open, and what their reads draw from."""

import torch

import mapping
import simulators


def machine(graph, target, chip_seed=0):
    return simulators.open(mapping.compile(graph, target), chip_seed=chip_seed)


def reads(seed):
    return torch.Generator().manual_seed(seed)
