"""The data sets that models, recipes and commands may name; a user's own joins them by `register_data`."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator

from ep_hw.data.held import READ, HeldSplit
from ep_hw.data.opening import is_place, open_place
from ep_hw.data.source import DEFAULT_SOURCE, BaseDataset, DataSource
from ep_hw.data.splits import EVERY, SPLITS, Choose, Split
from ep_hw.data.stored import StoredDataset
from mapping.definitions import is_again
from mapping.errors import Refusal, running
from mapping.fields import check_named
from mapping.names import nearest, suggesting

DATA_SETS: dict[str, BaseDataset] = {}


def register_data(data_set: BaseDataset) -> BaseDataset:
    """Let models, recipes and commands name a data set; what a notebook makes again takes the place of what it made.

    Raises:
        Refusal: a name that cannot be one, or that another data set has.
    """
    check_named(data_set.name, "data set")
    other = DATA_SETS.setdefault(data_set.name, data_set)
    if not (other is data_set or _is_again(data_set, other)):
        raise Refusal("the name means another data set", where="data set", got=data_set.name,
                      allowed="a name of its own", remedy="call it something else")
    DATA_SETS[data_set.name] = data_set
    return data_set


def _is_again(new: BaseDataset, old: BaseDataset) -> bool:
    """Whether a data set is another one: that of the same images, or equal to it, or made again in a notebook."""
    if isinstance(new, StoredDataset) and isinstance(old, StoredDataset):
        return new.splits == old.splits and all(new.sha256(split) == old.sha256(split) for split in new.splits)
    return new == old or (type(old).__module__ == "__main__" and is_again(type(new), type(old)))


def data_set(name: str) -> BaseDataset:
    """The data set of a name: a registered one, an .npz, or a folder of class folders.

    Raises:
        Refusal: there is none, or a file that holds no images with labels.
    """
    if name in DATA_SETS:
        return DATA_SETS[name]
    if divided := _divisions(name):
        raise Refusal("a data set of several divisions", where="data", got=name, allowed=", ".join(divided),
                      remedy="name one of them")
    if not is_place(name):
        raise _unknown(name, "", SPLITS) if Path(name).name == name and not Path(name).suffix else _nowhere(name)
    opened = open_place(name)
    if opened.name in DATA_SETS:
        raise Refusal("the name means another data set", where=name, got=opened.name, allowed="a name of its own",
                      remedy="rename it")
    return opened


def load_data(data: str | BaseDataset, split: str, data_source: DataSource = DEFAULT_SOURCE,
              choose: Choose = EVERY) -> Split:
    """One split of a data set, or some of its images.

    Args:
        data: a data set, or the name of one: "digits", "cifar10", "cifar100", one of your own, an .npz, or a folder of
            class folders.
        split: "train", "validation" or "test".
        data_source: where data sets lie.
        choose: which of its images.

    Raises:
        Refusal: unknown name or split, missing or damaged files, a data set that fails, or a split that it describes
            wrongly.
    """
    known = data_set(data) if isinstance(data, str) else data
    if split not in known.splits:
        raise _unknown(known.name, split, known.splits)
    with running("the data set cannot be loaded", where=known.name):
        loaded = known.part(split, data_source, choose)
    _check(loaded, known)
    return replace(loaded, class_names=known.class_names)


def held_data(known: BaseDataset, split: str, data_source: DataSource = DEFAULT_SOURCE) -> HeldSplit:
    """One split of a data set as it is stored, for training.

    Raises:
        Refusal: see `load_data`.
    """
    if split not in known.splits:
        raise _unknown(known.name, split, known.splits)
    with running("the data set cannot be loaded", where=known.name):
        held = known.held(split, data_source)
    if held is None:
        return HeldSplit.of(load_data(known, split, data_source))
    for part in held.parts(max(1, READ // math.prod(held.image_shape))):
        _check(part, known)
    return replace(held, class_names=known.class_names)


def known_names() -> str:
    """The names of all data sets in a line, divisions of one as `NAME[split=...]`."""
    return ", ".join(dict.fromkeys(name.partition("=")[0] + "=...]" * ("=" in name) for name in DATA_SETS))


def _divisions(name: str) -> list[str]:
    """The names of data sets that are a division of the one of that name."""
    return [known for known in DATA_SETS if known.startswith(f"{name}[")]


def _nowhere(name: str) -> Refusal:
    return Refusal("no such file or folder", where="data", got=name, allowed="an .npz, or a folder of class folders of "
                   f"PNG or JPEG; or {known_names()}", remedy="correct the path")


def _unknown(name: str, split: str, splits: tuple[str, ...]) -> Refusal:
    return Refusal("unknown data set or split", where="data", got=", ".join(filter(None, (name, split))), **suggesting(
        split or name, splits if split else DATA_SETS, remedy="choose one of each",
        allowed=f"{known_names()}, an .npz or a folder of class folders; {', '.join(splits)}"))


def _check(split: Split, data_set: BaseDataset):
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
    if name not in DATA_SETS and not is_place(name):
        near = "".join(f"; did you mean {other}?" for other in (_divisions(name) or nearest(name, DATA_SETS))[:1])
        raise ValueError(f"no data set {name!r}; known data sets are {known_names()}{near}")
    return name


DataName = Annotated[str, AfterValidator(_known)]
