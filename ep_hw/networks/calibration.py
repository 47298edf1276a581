"""Images that hardware is calibrated on: the first training images of a network's data."""

import logging
from dataclasses import replace
from functools import cache

import torch

from ep_hw.data.registry import load_data
from ep_hw.data.source import DEFAULT_SOURCE, DataSource

CALIBRATION_IMAGES = 64   # that training keeps in an EP network's checkpoint


def training_images(data: str, data_source: DataSource = DEFAULT_SOURCE,
                    count: int = CALIBRATION_IMAGES) -> torch.Tensor:
    """The first `count` training images of a data set, for a model that brings none, which is said once.

    Raises:
        Refusal: the data are not there.
    """
    return _first_images(data, replace(data_source, root=data_source.folder), count)


@cache
def _first_images(data: str, data_source: DataSource, count: int) -> torch.Tensor:
    images = load_data(data, "train", data_source).images[:count].clone()
    logging.getLogger(__name__).warning("calibration: the first %d training images of %s, since the model brings none",
                                        len(images), data)
    return images
