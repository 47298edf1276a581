"""The nineteen corruptions of Hendrycks and Dietterich 2019 by name: the sets that means and suites are made of."""

from collections.abc import Callable

from ep_hw.threats.definitions import Constant, Corrupting
from ep_hw.threats.registry import register_corruption

CODE, VERSION = "corruption", 1   # of all nineteen; raise the number whenever one of them changes
MAIN = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
        "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression")
ALL = (*MAIN, "speckle_noise", "gaussian_blur", "spatter", "saturate")
ALIASES = {"defocus": "defocus_blur", "elastic": "elastic_transform", "gaussian": "gaussian_noise",
           "glass": "glass_blur", "impulse": "impulse_noise", "jpeg": "jpeg_compression", "motion": "motion_blur",
           "shot": "shot_noise", "speckle": "speckle_noise", "zoom": "zoom_blur"}


def packaged(constants: tuple[Constant, ...], *,
             random: bool) -> Callable[[Corrupting[Constant]], Corrupting[Constant]]:
    """`register_corruption` for one of the nineteen."""
    return register_corruption(constants, random=random, code=CODE, version=VERSION)
