"""Fetching a published data set: some files of an archive that is known by its address and md5."""

import hashlib
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from mapping.errors import Refusal
from mapping.files import reason

PATIENCE_S = 60.0   # for a server that says nothing
_PIECE = 2**20


@dataclass(frozen=True)
class Archive:
    """A gzipped tar archive.

    Attributes:
        url: its address.
        md5: of the whole archive.
        limit: the most bytes of the archive, and of a file in it.
    """

    url: str
    md5: str
    limit: int

    def fetch(self, folder: str, names: Sequence[str], root: Path):
        """Put files of the archive into root/folder: all of them, or none, and nothing else.

        Args:
            folder: their folder in the archive.
            names: of the files wanted.
            root: where the folder is made.

        Raises:
            Refusal: it cannot be downloaded or written, or is not the published archive.
        """
        try:
            root.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=root) as scratch:
                self._download(Path(scratch) / "archive")
                self._extract(Path(scratch) / "archive", Path(scratch) / folder, names)
                (Path(scratch) / folder).rename(root / folder)
        except (OSError, EOFError, KeyError, HTTPException, tarfile.TarError, zlib.error) as error:
            raise Refusal("download failed", where=f"{self.url} into {root}", got=reason(error),
                          allowed="a reachable server, a writable folder",
                          remedy=f"put the folder {folder} there yourself") from None

    def _download(self, path: Path):
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with urlopen(self.url, timeout=PATIENCE_S) as response, open(path, "wb") as file:
            while piece := response.read(_PIECE):
                digest.update(piece)
                size += len(piece)
                if size > self.limit:
                    raise OSError(f"more than {self.limit} bytes")
                file.write(piece)
        if digest.hexdigest() != self.md5:
            raise OSError(f"an archive of md5 {digest.hexdigest()}, not {self.md5}")

    def _extract(self, path: Path, folder: Path, names: Sequence[str]):
        """Write the files of those names; where they go, neither names nor links of the archive decide."""
        folder.mkdir()
        with tarfile.open(path) as tar:
            for name in names:
                member = tar.getmember(f"{folder.name}/{name}")
                if not member.isfile() or member.size > self.limit:
                    raise OSError(f"{member.name} is no file that belongs there")
                content = tar.extractfile(member)
                assert content is not None, "a regular file has a content"
                (folder / name).write_bytes(content.read())
