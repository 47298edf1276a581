"""What a data set is, and where data sets lie."""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from ep_hw.data.held import HeldSplit
from ep_hw.data.splits import SPLITS, Choose, Split
from mapping.errors import Refusal


@dataclass(frozen=True, kw_only=True)
class BaseDataset(ABC):
    """What a data set says of itself, and how its splits are read.

    Attributes:
        name: on the command line, in recipes and in checkpoints.
        classes: how many classes its labels tell apart, from 0 to classes - 1.
        image_shape: (C, H, W).
        splits: those of "train", "validation" and "test" that it has.
        corruptions: the folder below a data source's in which its published corruptions lie; None where none were
            published.
        source: its file or folder, where that is what names it.
        class_names: of its classes; () where they have none.
        division: how it came by its splits, in words, where it is one's own.
    """

    name: str
    classes: int
    image_shape: tuple[int, int, int]
    splits: tuple[str, ...] = SPLITS
    corruptions: str | None = None
    source: str = ""
    class_names: tuple[str, ...] = ()
    division: str = ""

    @abstractmethod
    def load(self, split: str, data_source: "DataSource") -> Split:
        """One of its splits.

        Raises:
            Refusal: missing or damaged files.
        """

    def part(self, split: str, data_source: "DataSource", choose: Choose) -> Split:
        """Some images of one of its splits; a set that is large reads no others.

        Raises:
            Refusal: see `load`; or what it gives is no split.
        """
        loaded = self.load(split, data_source)
        if not isinstance(loaded, Split):
            raise Refusal("the data set loads no split", where=self.name, got=type(loaded).__name__,
                          allowed="a Split", remedy="return one from its 'load'")
        return choose.of(loaded)


    def held(self, split: str, data_source: "DataSource") -> HeldSplit | None:
        """One of its splits as it is stored, for training; None where only `load` gives it, as floats.

        Raises:
            Refusal: see `load`.
        """
        return None


@dataclass(frozen=True)
class DataSource:
    """The folder that holds the folders of data sets, and whether a missing data set is fetched into it.

    Attributes:
        root: the folder; the one that the environment variable EP_HW_DATA names if None.
        download: fetch a missing data set from where it was published.
        data: takes the place of the data set that a model or recipe names; theirs if None.
    """

    root: str | Path | None = None
    download: bool = False
    data: BaseDataset | None = None

    @property
    def folder(self) -> Path | None:
        """The folder, or None where neither `root` nor EP_HW_DATA names one."""
        root = self.root or os.environ.get("EP_HW_DATA")
        return Path(root) if root else None


DEFAULT_SOURCE = DataSource()
