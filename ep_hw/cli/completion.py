"""What a shell completes: names that begin as what was typed. None of them loads torch, which takes seconds."""

from collections.abc import Iterable
from glob import escape, glob
from pathlib import Path

import ep_hw
from mapping.crossbar.presets import PRESETS
from mapping.registry import REGISTRY

# The names of ep_hw.threats, which loads torch; a test compares them.
ATTACKS = ("autoattack_l2", "autoattack_linf", "cw_l2", "deepfool_l2", "deepfool_linf", "one_pixel", "pgd_l2",
           "pgd_linf", "pgd_unclipped_l2", "pgd_unclipped_linf", "square_l2", "square_linf")
CORRUPTIONS = ("brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_blur",
               "gaussian_noise", "glass_blur", "impulse_noise", "jpeg_compression", "motion_blur", "pixelate",
               "saturate", "shot_noise", "snow", "spatter", "speckle_noise", "zoom_blur")
SEVERITIES = range(1, 6)


def machines(start: str) -> list[str]:
    """Machines."""
    return _beginning(start, REGISTRY)


def models(start: str) -> list[str]:
    """Packaged models, and checkpoints beside what was typed."""
    packaged = (Path(ep_hw.__file__).parent / "networks" / "models").glob("*.safetensors")
    return [*_beginning(start, sorted(path.stem for path in packaged)), *sorted(glob(f"{escape(start)}*.safetensors"))]


def devices(start: str) -> list[str]:
    """Memory devices that have data of their own."""
    return _beginning(start, [name for name, preset in PRESETS.items() if preset.constants])


def attacks(start: str) -> list[str]:
    """Attacks, whose strength is left to type."""
    return _beginning(start, [f"{name}@" for name in ATTACKS])


def corruptions(start: str) -> list[str]:
    """Corruptions, at each severity once one is named."""
    named = start.partition("@")[0]
    whole = [f"{named}@{severity}" for severity in SEVERITIES] if named in CORRUPTIONS else []
    return _beginning(start, whole or [f"{name}@" for name in CORRUPTIONS])


def threats(start: str) -> list[str]:
    """Both."""
    return [*attacks(start), *corruptions(start)]


def _beginning(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]
