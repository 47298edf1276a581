"""Files that torch.save did not write: each kind in a few words, with a remedy."""

from pathlib import Path

from mapping.errors import Refusal
from mapping.files import check_regular, refusing

TENSORS = "a state dict of torch.save"
_READ = 512   # bytes at the start of a file
SAVE = "save model.state_dict() with torch.save"
AGAIN = "download or copy it again"
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")
_STARTS = {
    b"version https://git-lfs": ("a git-lfs pointer to the file", "fetch the file itself with 'git lfs pull'"),
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19": (
        "a file of torch before 1.6, without checksums", "save it again with a newer torch: "
        "torch.save(torch.load(FILE, map_location='cpu', weights_only=True), NEW)"),
    b"\x89HDF": ("an HDF5 file", SAVE), b"\x93NUMPY": ("an array of numpy", SAVE),
    b"\x1f\x8b": ("a file packed by gzip", "unpack it"), b"BZh": ("a file packed by bzip2", "unpack it"),
    b"\xfd7zXZ": ("a file packed by xz", "unpack it"), b"\x80": ("a pickle that torch.save did not write", SAVE)}


def check_format(path: Path):
    """Refuse a file that does not begin as a zip archive, and name its kind.

    Raises:
        Refusal: see above; also a file that cannot be opened.
    """
    with refusing("not a file of tensors", where=path, allowed=TENSORS, remedy="name a file of torch.save"):
        size = check_regular(path).st_size
        with open(path, "rb") as file:
            start = file.read(_READ)
    if not start.startswith(_ZIP):
        raise not_tensors(path, *_kind(start, size))


def root_of(path: Path, names: list[str]) -> str:
    """The folder of torch.save's files in a zip archive, with its slash.

    Raises:
        Refusal: torch.save did not write the archive.
    """
    roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise not_tensors(path, "a zip archive of something else", SAVE)
    if f"{roots[0]}constants.pkl" in names:
        raise not_tensors(path, "a TorchScript program", "torch.save(torch.jit.load(FILE).state_dict(), NEW)")
    return roots[0]


def not_tensors(path: Path, got: str, remedy: str) -> Refusal:
    return Refusal("not a file of tensors", where=str(path), got=got, allowed=TENSORS, remedy=remedy)


def _kind(start: bytes, size: int) -> tuple[str, str]:
    """The kind of a file by its first bytes, and a remedy."""
    if not start:
        return "an empty file", AGAIN
    if start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_PAGE):
        return "a web page", "download the file that the page offers"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < size:
        return "a safetensors file", ("a model of ep-hw needs no import; any other: "
                                      "torch.save(safetensors.torch.load_file(FILE), NEW)")
    known = (words for head, words in _STARTS.items() if start.startswith(head))
    return next(known, None) or (_unknown(start), SAVE)


def _unknown(start: bytes) -> str:
    line = start.split(b"\n")[0][:40].decode("latin1")
    return f"text: {line!r}" if line.isascii() and line.isprintable() else f"bytes: {start[:8].hex(' ')} ..."
