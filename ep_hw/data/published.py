"""Published sets in the folders and files that torchvision makes below its root: those of MNIST's form, SVHN and USPS.

Source: LeCun et al. 1998 (MNIST), Xiao et al. 2017 (Fashion-MNIST), Clanuwat et al. 2018 (KMNIST), Cohen et al. 2017
(EMNIST), Netzer et al. 2011 (SVHN), Hull 1994 (USPS).
"""

import string
import zipfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ep_hw.data.held import HeldSplit
from ep_hw.data.idx import idx_rows
from ep_hw.data.libsvm import libsvm_rows
from ep_hw.data.matlab import matlab_rows
from ep_hw.data.rows import Rows
from ep_hw.data.source import BaseDataset, DataSource
from ep_hw.data.splits import EVERY, Choose, Split
from ep_hw.data.stored import DRAWN, StoredDataset, stored_dataset
from mapping.errors import Refusal
from mapping.files import reason

PREFIX = "torchvision:"
OWN = ("train", "test")   # splits that are published
_REMEDY = "give --data-root or EP_HW_DATA, or --download with a folder to fetch it into"


@dataclass(frozen=True, kw_only=True)
class PublishedSet(BaseDataset):
    """A set of torchvision: its own train and test, validation images drawn from train."""

    division: str = f"its own train, test; {DRAWN}"
    asked: ClassVar[Sequence[Mapping[str, object]]] = ({},)   # of torchvision's class, to fetch all of it

    @property
    def title(self) -> str:
        """Its class in torchvision."""
        return self.name.removeprefix(PREFIX).partition("[")[0]

    @abstractmethod
    def files(self, split: str) -> tuple[str, ...]:
        """Paths below the root that hold a published split."""

    @abstractmethod
    def rows(self, paths: Sequence[Path]) -> Rows:
        """What these files hold.

        Raises:
            Refusal: they are damaged, or others.
        """

    def load(self, split: str, data_source: DataSource) -> Split:
        """See `BaseDataset`."""
        return self.part(split, data_source, EVERY)

    def part(self, split: str, data_source: DataSource, choose: Choose) -> Split:
        """See `BaseDataset`."""
        return self.stored(data_source).part(split, data_source, choose)

    def held(self, split: str, data_source: DataSource) -> HeldSplit:
        """See `BaseDataset`."""
        return self.stored(data_source).held(split, data_source)

    def stored(self, data_source: DataSource) -> StoredDataset:
        """What lies below the root.

        Raises:
            Refusal: it is not there and cannot be fetched, or its files are damaged.
        """
        root = self._root(data_source)
        rows = {split: self.rows([root / file for file in self.files(split)]) for split in OWN}
        return stored_dataset(self.name, rows, self.class_names, source=self.name)

    def _root(self, data_source: DataSource) -> Path:
        """The folder that holds its files, fetched where some are missing and the source says so."""
        every = [file for split in OWN for file in self.files(split)]
        root = data_source.folder
        if root is None:
            raise Refusal("no data folder named", where=self.name, got="neither --data-root nor EP_HW_DATA",
                          allowed=f"a folder that holds {every[0]}", remedy=_REMEDY)
        if data_source.download and not all((root / file).is_file() for file in every):
            self._fetch(root)
        if missing := [root / file for file in every if not (root / file).is_file()]:
            raise Refusal("data set not found", where=self.name, got=missing[0], allowed="an existing file",
                          remedy=_REMEDY)
        return root

    def _fetch(self, root: Path):
        from torchvision import datasets

        try:
            root.mkdir(parents=True, exist_ok=True)
            for arguments in self.asked:
                getattr(datasets, self.title)(str(root), download=True, **arguments)
        except (OSError, RuntimeError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise Refusal("download failed", where=f"{self.name} into {root}", got=reason(error),
                          allowed="a reachable server, a writable folder",
                          remedy=f"put {', '.join(self.files('train'))} ... there yourself") from None


@dataclass(frozen=True, kw_only=True)
class Mnist(PublishedSet):
    """A set in MNIST's form, ROOT/MNIST/raw/train-images-idx3-ubyte."""

    image_shape: tuple[int, int, int] = (1, 28, 28)
    stems: ClassVar[Mapping[str, str]] = {"train": "train", "test": "t10k"}
    first: ClassVar[int] = 0   # number of the first class

    def files(self, split: str) -> tuple[str, ...]:
        """See `PublishedSet`."""
        stem = f"{self.title}/raw/{self.stems[split]}"
        return f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"

    def rows(self, paths: Sequence[Path]) -> Rows:
        """See `PublishedSet`."""
        return idx_rows(paths[0], paths[1], self.first)


@dataclass(frozen=True, kw_only=True)
class Emnist(Mnist):
    """One of EMNIST's six divisions; images lie on their side, as they are published and as torchvision shows them."""

    @property
    def part_of(self) -> str:
        """The division, by torchvision's name."""
        return self.name.partition("split=")[2].removesuffix("]")

    @property
    def stems(self) -> Mapping[str, str]:  # type: ignore[override]
        """See `Mnist`."""
        return {split: f"emnist-{self.part_of}-{split}" for split in OWN}

    @property
    def first(self) -> int:  # type: ignore[override]
        """See `Mnist`; letters are numbered from 1."""
        return int(self.part_of == "letters")

    @property
    def asked(self) -> Sequence[Mapping[str, object]]:  # type: ignore[override]
        """See `PublishedSet`."""
        return tuple({"split": self.part_of, "train": train} for train in (True, False))


@dataclass(frozen=True, kw_only=True)
class Svhn(PublishedSet):
    """Street View House Numbers, ROOT/train_32x32.mat; 0 is published as class 10."""

    image_shape: tuple[int, int, int] = (3, 32, 32)
    asked: ClassVar[Sequence[Mapping[str, object]]] = tuple({"split": split} for split in OWN)

    def files(self, split: str) -> tuple[str, ...]:
        """See `PublishedSet`."""
        return (f"{split}_32x32.mat",)

    def rows(self, paths: Sequence[Path]) -> Rows:
        """See `PublishedSet`."""
        return matlab_rows(paths[0], self.image_shape, self.classes)


@dataclass(frozen=True, kw_only=True)
class Usps(PublishedSet):
    """Digits of the US Postal Service, ROOT/usps.bz2 and usps.t.bz2."""

    image_shape: tuple[int, int, int] = (1, 16, 16)
    asked: ClassVar[Sequence[Mapping[str, object]]] = tuple({"train": train} for train in (True, False))

    def files(self, split: str) -> tuple[str, ...]:
        """See `PublishedSet`."""
        return ("usps.bz2" if split == "train" else "usps.t.bz2",)

    def rows(self, paths: Sequence[Path]) -> Rows:
        """See `PublishedSet`."""
        return libsvm_rows(paths[0], self.image_shape, self.classes)


DIGITS, LOWER, UPPER = string.digits, string.ascii_lowercase, string.ascii_uppercase
ALIKE = set("cijklmopsuvwxyz")   # lower-case letters that EMNIST merges with their upper-case ones
MERGED = DIGITS + UPPER + "".join(letter for letter in LOWER if letter not in ALIKE)
DIVISIONS = {"byclass": DIGITS + UPPER + LOWER, "bymerge": MERGED, "balanced": MERGED, "letters": LOWER,
             "digits": DIGITS, "mnist": DIGITS}   # of EMNIST, and the classes of each in their order
CLOTHES = ("T-shirt or top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
PUBLISHED: tuple[PublishedSet, ...] = (
    *(Mnist(name=f"{PREFIX}{title}", classes=10, class_names=names)
      for title, names in (("MNIST", ()), ("FashionMNIST", CLOTHES), ("KMNIST", ()))),
    *(Emnist(name=f"{PREFIX}EMNIST[split={split}]", classes=len(names), class_names=tuple(names))
      for split, names in DIVISIONS.items()),
    Svhn(name=f"{PREFIX}SVHN", classes=10), Usps(name=f"{PREFIX}USPS", classes=10))
