"""Where data sets lie."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DataSource:
    """The folder that holds the folders of data sets, and whether a missing data set is fetched into it.

    Attributes:
        root: the folder; the one that the environment variable EP_HW_DATA names if None.
        download: fetch a missing data set from where it was published.
    """

    root: str | Path | None = None
    download: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder, or None where neither `root` nor EP_HW_DATA names one."""
        root = self.root or os.environ.get("EP_HW_DATA")
        return Path(root) if root else None


DEFAULT_SOURCE = DataSource()
