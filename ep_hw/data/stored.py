"""Data sets of one's own: arrays in memory or files, in splits that are their own or are drawn by a fixed seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from ep_hw.data.held import HeldSplit
from ep_hw.data.layouts import Layout
from ep_hw.data.rows import MemoryRows, Rows
from ep_hw.data.source import BaseDataset, DataSource
from ep_hw.data.splits import EVERY, SPLIT_SEED, SPLITS, Choose, Places, Split
from mapping.errors import Refusal
from mapping.fields import check_named

TEST, VALIDATION = 0.2, 0.1   # of each class, where a set has no such split of its own
NAMED = 12   # classes that a line has room for
DRAWN = f"{VALIDATION:.0%} of each class of train for validation, drawn by seed {SPLIT_SEED}"
Array: TypeAlias = NDArray | torch.Tensor


@dataclass(frozen=True, eq=False)
class Portion:
    """A split as some rows of what is stored.

    Attributes:
        rows: what is stored.
        places: of the split's images, in its order.
    """

    rows: Rows
    places: Places

    @property
    def labels(self) -> Places:
        """(N,) of its images."""
        return self.rows.labels[self.places]


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredDataset(BaseDataset):
    """A data set of one's own.

    Attributes:
        portions: its splits by name.
    """

    portions: Mapping[str, Portion]

    def load(self, split: str, data_source: DataSource) -> Split:
        """See `BaseDataset`."""
        return self.part(split, data_source, EVERY)

    def part(self, split: str, data_source: DataSource, choose: Choose) -> Split:
        """See `BaseDataset`."""
        portion = self.portions[split]
        chosen = portion.places[choose.places(len(portion.places))]
        images, sha256 = portion.rows.read(portion.places, chosen)
        return Split(self.name, images, torch.from_numpy(portion.rows.labels[chosen]), torch.from_numpy(chosen), sha256)

    def held(self, split: str, data_source: DataSource) -> HeldSplit:
        """See `BaseDataset`."""
        portion = self.portions[split]
        pixels, sha256 = portion.rows.held(portion.places)
        return HeldSplit(data=self.name, image_shape=self.image_shape, pixels=(pixels,), sha256=sha256,
                         labels=torch.from_numpy(portion.labels), ids=torch.from_numpy(portion.places),
                         class_names=self.class_names)

    def sha256(self, split: str) -> str:
        """Of the images and labels of a split."""
        portion = self.portions[split]
        return portion.rows.read(portion.places, portion.places[:0])[1]

    def counts(self, split: str) -> Places:
        """How many images of each class a split has."""
        return np.bincount(self.portions[split].labels, minlength=self.classes)

    def __repr__(self):
        return f"<{self.sentence()}>"

    def sentence(self) -> str:
        """What is in it, in a line."""
        shape = "x".join(map(str, self.image_shape))
        sizes = ", ".join(f"{split} {len(portion.places)}" for split, portion in self.portions.items())
        return (f"{self.name}: {self.classes} classes ({self._classes()}), images of {shape}; {sizes} "
                f"({self.division})")

    def _classes(self) -> str:
        """How many images each class has, of many classes the fewest and the most."""
        counts = np.sum([self.counts(split) for split in self.splits], axis=0)
        if self.classes > NAMED:
            return f"of {counts.min()} to {counts.max()} images"
        return ", ".join(f"{name}: {count}" for name, count in zip(self.class_names, counts))


class Dataset(StoredDataset):
    """Images and labels in memory, anywhere that the name of a data set goes.

        Dataset(images, labels)                                     # in splits that are drawn
        Dataset(images, labels, test=(more, of_them), name="mine")  # what is given first is trained on

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) uint8, or floats in [0, 1].
        labels: (N,) whole numbers from 0 to K - 1.
        validation: images and labels; drawn from the first ones if None.
        test: images and labels; drawn from the first ones if None.
        name: in results.
        class_names: their numbers if empty.
        layout: "NCHW" or "NHWC", where the shapes do not say.

    Raises:
        Refusal: images that are none, or labels that are not theirs.
    """

    def __init__(self, images: Array, labels: Array, *, validation: tuple[Array, Array] | None = None,
                 test: tuple[Array, Array] | None = None, name: str = "own", class_names: Sequence[str] = (),
                 layout: Layout | None = None):
        given = {"train" if test else "": (images, labels), "validation": validation, "test": test}
        stored = {split: MemoryRows.of(_numpy(x), _numpy(y), f"{name} {split}".strip(), layout)
                  for split, pair in given.items() if pair for x, y in [pair]}
        super().__init__(**vars(stored_dataset(name, stored, class_names)))


def _numpy(array: Array) -> NDArray:
    return array.detach().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)


def stored_dataset(name: str, stored: Mapping[str, Rows], class_names: Sequence[str] = (),
                   source: str = "") -> StoredDataset:
    """A data set of what is stored under the names of splits, or under none, where all three are drawn from it.

    Raises:
        Refusal: a name that is none, splits of different images, classes without an image, or too few to draw from.
    """
    check_named(name, "data set")
    shapes = {rows.image_shape for rows in stored.values()}
    if len(shapes) != 1:
        raise Refusal("splits of different images", where=name, allowed="images of one shape (C, H, W)",
                      got=", ".join(map(str, sorted(shapes))) or "none", remedy="save them alike")
    portions, division = _portions(name, stored)
    (shape,), classes = shapes, _classes(name, portions, class_names)
    return StoredDataset(name=name, classes=classes, image_shape=shape, splits=tuple(portions), portions=portions,
                         class_names=tuple(class_names) or tuple(map(str, range(classes))), division=division,
                         source=source)


def _portions(name: str, stored: Mapping[str, Rows]) -> tuple[dict[str, Portion], str]:
    """Splits by name, and how they came about in words."""
    orders = {split: np.random.default_rng(SPLIT_SEED).permutation(len(rows.labels)) for split, rows in stored.items()}
    own = ", ".join(split for split in SPLITS if split in stored)
    if "" in stored:
        places = _drawn(name, stored[""].labels, orders[""], ("test", TEST), ("validation", VALIDATION))
        portions = {split: Portion(stored[""], places[split]) for split in SPLITS}
        return portions, (f"{TEST:.0%} of each class for test, {VALIDATION:.0%} for validation, drawn by seed "
                          f"{SPLIT_SEED}")
    portions = {split: Portion(rows, orders[split]) for split, rows in stored.items()}
    if "train" not in stored or "validation" in stored:
        return {split: portions[split] for split in SPLITS if split in portions}, f"its own {own}"
    drawn = _drawn(name, stored["train"].labels, orders["train"], ("validation", VALIDATION))
    portions |= {split: Portion(stored["train"], places) for split, places in drawn.items()}
    return {split: portions[split] for split in SPLITS if split in portions}, f"its own {own}; {DRAWN}"


def _drawn(name: str, labels: Places, order: Places, *shares: tuple[str, float]) -> dict[str, Places]:
    """Shares of each class by name, and what is left for training; at least an image of each class in each."""
    left: dict[str, list[Places]] = {split: [] for split, _ in (*shares, ("train", 0))}
    ordered = labels[order]
    for label in range(int(labels.max(initial=-1)) + 1):
        own = np.flatnonzero(ordered == label)
        sizes = [max(1, round(share * len(own))) for _, share in shares]
        if len(own) <= sum(sizes):
            raise Refusal("too few images of a class to draw splits from", where=f"{name}, class {label}",
                          got=len(own), allowed=f"{len(shares) + 1} or more", remedy="add images, or give splits")
        for split, part in zip(left, np.split(own, np.cumsum(sizes))):
            left[split].append(part)
    return {split: order[np.sort(np.concatenate([*parts, np.empty(0, int)]))] for split, parts in left.items()}


def _classes(name: str, portions: Mapping[str, Portion], class_names: Sequence[str]) -> int:
    """How many classes there are.

    Raises:
        Refusal: fewer than two, one of which there is no image to train on, or as many names as are not there.
    """
    classes = max(len(class_names), *(1 + int(portion.labels.max(initial=-1)) for portion in portions.values()))
    first = next(iter(portions))
    counts = np.bincount(portions[first].labels, minlength=classes)
    if classes < 2 or not counts.all() or len(class_names) not in (0, classes):
        missing = f", no image of {np.flatnonzero(counts == 0)[:5]}" * (not counts.all())
        raise Refusal("classes that no image shows", where=f"{name}, {first}", allowed="two classes or more, numbered "
                      "from 0, an image and a name of each", remedy="number the classes that there are 0, 1, 2 ...",
                      got=f"{classes} classes, {len(class_names)} names{missing}")
    return classes
