"""The data sets that models, recipes and commands may name; a user's own joins them by `register_data`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import AfterValidator

from ep_hw.data.source import DEFAULT_SOURCE, DataSource
from ep_hw.data.splits import SPLITS, Split
from mapping.errors import Refusal
from mapping.fields import check_named


@dataclass(frozen=True, kw_only=True)
class DataSet(ABC):
    """What a data set says of itself, and how its splits are read.

    Attributes:
        name: on the command line, in recipes and in checkpoints.
        classes: how many classes its labels tell apart, from 0 to classes - 1.
        image_shape: (C, H, W).
        splits: those of "train", "validation" and "test" that it has.
        corruptions: the folder below a data source's in which its published corruptions lie; None where none were
            published.
    """

    name: str
    classes: int
    image_shape: tuple[int, int, int]
    splits: tuple[str, ...] = SPLITS
    corruptions: str | None = None

    @abstractmethod
    def load(self, split: str, data_source: DataSource) -> Split:
        """One of its splits.

        Raises:
            Refusal: missing or damaged files.
        """


DATA_SETS: dict[str, DataSet] = {}


def register_data(data_set: DataSet) -> DataSet:
    """Let models, recipes and commands name a data set.

    Raises:
        Refusal: a name that cannot be one, or that another data set has.
    """
    check_named(data_set.name, "data set")
    if DATA_SETS.setdefault(data_set.name, data_set) != data_set:
        raise Refusal("the name means another data set", where="data set", got=data_set.name,
                      allowed="a name of its own", remedy="call it something else")
    return data_set


def load_data(name: str, split: str, data_source: DataSource = DEFAULT_SOURCE) -> Split:
    """One split of a data set.

    Args:
        name: of a registered data set: "digits", "cifar10", "cifar100", or one of your own.
        split: "train", "validation" or "test".
        data_source: where data sets lie.

    Raises:
        Refusal: unknown name or split, missing or damaged files, or a split that its data set describes wrongly.
    """
    data_set = DATA_SETS.get(name)
    splits = data_set.splits if data_set else SPLITS
    if data_set is None or split not in splits:
        raise Refusal("unknown data set or split", where="data", got=f"{name}, {split}",
                      allowed=f"{', '.join(DATA_SETS)}; {', '.join(splits)}", remedy="choose one of each")
    loaded = data_set.load(split, data_source)
    _check(loaded, data_set)
    return loaded


def _check(split: Split, data_set: DataSet):
    """Refuse images or labels that no network for this data set could be shown."""
    shape, dtypes = tuple(split.images.shape[1:]), (split.images.dtype, split.labels.dtype)
    low, high = split.images.aminmax() if len(split) else (-1, -1)
    if (split.data, shape, dtypes) != (data_set.name, data_set.image_shape, (torch.float32, torch.int64)) or not (
            0 <= low <= high <= 1 and 0 <= split.labels.min() <= split.labels.max() < data_set.classes):
        raise Refusal("the split is not what its data set says", where=data_set.name,
                      got=f"{len(split)} {dtypes[0]} images of shape {shape}, named {split.data}",
                      allowed=f"float32 images in [0, 1] of shape {data_set.image_shape}, int64 labels from 0 to "
                              f"{data_set.classes - 1}", remedy="correct its 'load', or what it says of itself")


def _known(name: str) -> str:
    if name not in DATA_SETS:
        raise ValueError(f"no data set {name!r}; known data sets are {', '.join(DATA_SETS)}")
    return name


DataName = Annotated[str, AfterValidator(_known)]
