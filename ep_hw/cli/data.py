"""`ep-hw data`: what is in a data set; and where other commands find their images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ep_hw.cli.application import app
from ep_hw.cli.printing import print_table, say
from mapping.program import Table

if TYPE_CHECKING:   # loads torch
    from ep_hw.data.source import BaseDataset, DataSource
    from ep_hw.data.stored import StoredDataset
    from ep_hw.networks.baselines import Baseline
    from ep_hw.networks.network import EPNetwork

DataRoot = Annotated[str | None, typer.Option(help="folder that holds cifar-10-batches-py, MNIST ... "
                                              "(or EP_HW_DATA)")]
Download = Annotated[bool, typer.Option("--download", help="fetch a missing data set from where it was published")]


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where a command finds its images."""

    data: Annotated[str | None, typer.Option(help="data set in place of the model's or recipe's: a name "
                                             "('ep-hw data'), an .npz, or a folder of class folders of PNG or JPEG"
                                             )] = None
    data_root: DataRoot = None
    download: Download = False

    def source(self) -> "DataSource":
        """What the options say; what is in a data set of the user's own is said."""
        from ep_hw.data.registry import data_set
        from ep_hw.data.source import DataSource
        from ep_hw.data.stored import StoredDataset

        known = data_set(self.data) if self.data else None
        if isinstance(known, StoredDataset):
            say(known.sentence())
        return DataSource(self.data_root, self.download, known)

    def calibrated(self, model: str) -> "EPNetwork | Baseline":
        """A model with the activity that converters are sized by: on data that are named, else on its own."""
        from ep_hw import load

        source, net = self.source(), load(model)
        return net.calibrated_on(source) if source.data else net.calibrated(source)


@app.command(name="data", examples=("data", "data digits"))
def show_data(name: Annotated[str | None, typer.Argument(metavar="DATA", help="a name, an .npz, or a folder of class "
                                                                              "folders; all names if none")] = None,
              data_root: DataRoot = None, download: Download = False):
    """Show what is in a data set: classes, images and splits.

    Without a name, the data sets that have one.
    """
    from ep_hw.data.published import PublishedSet
    from ep_hw.data.registry import DATA_SETS, data_set
    from ep_hw.data.source import DataSource
    from ep_hw.data.stored import StoredDataset

    if name is None:
        print_table(Table("data sets", ("name", "classes", "images"), tuple(map(_row, DATA_SETS.values())),
                          ("your own: an .npz, or a folder of class folders, by its path",)))
        return
    known, source = data_set(name), DataSource(data_root, download)
    known = known.stored(source) if isinstance(known, PublishedSet) else known
    if isinstance(known, StoredDataset):
        print_table(_counts(known, source))
    else:
        print_table(Table("data set", ("name", "classes", "images"), (_row(known),)))


def _row(known: "BaseDataset") -> tuple:
    return known.name, known.classes, "x".join(map(str, known.image_shape))


def _counts(known: "StoredDataset", source: "DataSource") -> Table:
    """A line a class: how many images of it each split has; every value is read and checked."""
    from ep_hw.data.splits import Choose

    read = {split: known.part(split, source, Choose(0)).sha256 for split in known.splits}
    counts = [known.counts(split).tolist() for split in known.splits]
    rows = tuple(zip(range(known.classes), known.class_names, *counts))
    return Table(known.name, ("class", "name", *known.splits), rows,
                 (known.sentence(), "sha256: " + ", ".join(f"{split} {sha256[:12]}" for split, sha256 in read.items())))
