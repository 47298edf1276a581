"""Calibration images for a network that brings none: the first training images of its data, which training keeps."""

import logging
from dataclasses import replace
from functools import cache
from typing import overload

import torch

from ep_hw.data.registry import load_data
from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.networks.baselines import Baseline
from ep_hw.networks.network import EPNetwork
from mapping.errors import Refusal

CALIBRATION_IMAGES = 64


@overload
def calibrated(net: EPNetwork, data_source: DataSource = ...) -> EPNetwork: ...
@overload
def calibrated(net: Baseline, data_source: DataSource = ...) -> Baseline: ...
def calibrated(net: EPNetwork | Baseline, data_source: DataSource = DEFAULT_SOURCE) -> EPNetwork | Baseline:
    """The network with calibration images: its own, or training images of its data, which is said once.

    Returns:
        The network as it was where its data are not there; machines with converters then refuse it.
    """
    if isinstance(net, Baseline) or net.calibration is not None:
        return net
    try:
        images = _first_images(net.data, replace(data_source, root=data_source.folder))
    except Refusal:
        return net
    return replace(net, calibration=images)


@cache
def _first_images(data: str, data_source: DataSource) -> torch.Tensor:
    images = load_data(data, "train", data_source).images[:CALIBRATION_IMAGES].clone()
    logging.getLogger(__name__).warning("calibration: the first %d training images of %s, since the model brings none",
                                        len(images), data)
    return images
