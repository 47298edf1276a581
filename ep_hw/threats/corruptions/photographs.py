"""The published photographs of frost: looked for, checked, never replaced by anything else."""

import hashlib
import io
import os
from functools import lru_cache
from importlib.util import find_spec
from os.path import isfile
from pathlib import Path

import numpy as np
from PIL import Image

from mapping.errors import Refusal
from mapping.files import read_bytes, refusing

SHA256 = {
    "frost1.png": "ff9f907860bd7a835d459e32f9d588062b7f61ee267343cc7222b56753a14755",
    "frost2.png": "fe211a89b336999c207a852ce05818d4545d0b57c5beadd824b4cc9d9a9b6137",
    "frost3.png": "2d0d50b4a9bb213f38b024ef7768731bb83cc08d2f26b5766bbc167cdfa0e504",
    "frost4.jpg": "3f8b91ca1a9fa7167b09e773da53f5ae60d0a1fd88f02a783f6e328a72887f6e",
    "frost5.jpg": "5fc6a19df4a429ba68abdcc8f8a4278d4c9f81c9ccafd2c92ab0c8cf8992ebd2",
}
_LARGEST = 2**21   # bytes of a photograph
_WHAT = "not the published photograph"
REMEDY = ("install imagecorruptions-imaug, which carries them, or set EP_HW_FROST to the folder that holds "
          "frost1.png to frost5.jpg")


@lru_cache(maxsize=1)
def frost_photographs() -> tuple[np.ndarray, ...]:
    """The five photographs in use, each (3, H, W) in [0, 1].

    They are looked for in the folder EP_HW_FROST, in the folder `frost` of EP_HW_DATA, and in the installed package
    imagecorruptions (which is not imported).

    Raises:
        Refusal: they are nowhere, or are not the published ones.
    """
    folders = _folders()
    for folder in folders:
        if all(isfile(folder / name) for name in SHA256):
            return tuple(_read(folder / name) for name in SHA256)
    raise Refusal("the photographs of frost are missing", where="corruption frost",
                  got=", ".join(map(str, folders)) or "no folder", allowed=", ".join(SHA256), remedy=REMEDY)


def _folders() -> list[Path]:
    folders = [Path(os.environ["EP_HW_FROST"])] if "EP_HW_FROST" in os.environ else []
    folders += [Path(os.environ["EP_HW_DATA"]) / "frost"] if "EP_HW_DATA" in os.environ else []
    package = find_spec("imagecorruptions")
    return folders + ([Path(package.origin).parent / "frost"] if package and package.origin else [])


def _read(path: Path) -> np.ndarray:
    with refusing(_WHAT, where=path, allowed="the published photograph", remedy=REMEDY):
        content = read_bytes(path, _LARGEST)
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256[path.name]:
        raise Refusal(_WHAT, where=str(path), got=f"sha256 {digest[:12]}", allowed=SHA256[path.name][:12],
                      remedy=REMEDY)
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"), np.float64).transpose(2, 0, 1) / 255
