"""What a shell completes: names that begin as what was typed, those of the user's own devices and plug-ins among them.

None of them loads torch, which takes seconds, but for plug-ins.
"""

import io
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from glob import escape, glob
from pathlib import Path

import typer
from typer._click.shell_completion import CompletionItem
from typer._completion_classes import BashComplete

import ep_hw
from ep_hw.evaluation import own
from mapping.crossbar.presets import PRESETS
from mapping.program import FILE
from mapping.registry import REGISTRY

# The names of ep_hw.threats, which loads torch; a test compares them.
ATTACKS = ("autoattack_l2", "autoattack_linf", "cw_l2", "deepfool_l2", "deepfool_linf", "one_pixel", "pgd_l2",
           "pgd_linf", "pgd_unclipped_l2", "pgd_unclipped_linf", "square_l2", "square_linf")
CORRUPTIONS = ("brightness", "contrast", "defocus_blur", "elastic_transform", "fog", "frost", "gaussian_blur",
               "gaussian_noise", "glass_blur", "impulse_noise", "jpeg_compression", "motion_blur", "pixelate",
               "saturate", "shot_noise", "snow", "spatter", "speckle_noise", "zoom_blur")
SEVERITIES = range(1, 6)
DEPTH = 2   # folders below what was typed that are looked into
BREAKS = ":=@"   # where bash takes words apart


def machines(start: str) -> list[str]:
    """Machines, behind a label too, and folders of compiled programs."""
    _own_at_hand()
    label, equals, name = start.rpartition("=") if "[" not in start else ("", "", start)
    programs = [os.path.dirname(place) for place in _below(name, f"/{FILE}")]
    return [f"{label}{equals}{one}" for one in (*_beginning(name, REGISTRY), *programs)]


def models(start: str) -> list[str]:
    """Packaged models, those of plug-ins, and checkpoints."""
    _own_at_hand()
    packaged = (Path(ep_hw.__file__).parent / "networks" / "models").glob("*.safetensors")
    of_plugins = [f"plugin:{name}" for name in _of_plugins("networks.own.MODULES")]
    return [*_beginning(start, [*sorted(path.stem for path in packaged), *of_plugins]), *_below(start, ".safetensors")]


def devices(start: str) -> list[str]:
    """Memory devices that have data of their own."""
    _own_at_hand()
    return _beginning(start, [name for name, preset in PRESETS.items() if preset.constants])


def attacks(start: str) -> list[str]:
    """Attacks, whose strength is left to type."""
    _own_at_hand()
    names = dict.fromkeys([*ATTACKS, *_of_plugins("threats.registry.ATTACKS")])
    return _beginning(start, [f"{name}@" for name in names])


def corruptions(start: str) -> list[str]:
    """Corruptions, at each severity once one is named."""
    _own_at_hand()
    names = dict.fromkeys([*CORRUPTIONS, *_of_plugins("threats.registry.CORRUPTIONS")])
    named = start.partition("@")[0]
    whole = [f"{named}@{severity}" for severity in SEVERITIES] if named in names else []
    return _beginning(start, whole or [f"{name}@" for name in names])


def threats(start: str) -> list[str]:
    """Both."""
    return [*attacks(start), *corruptions(start)]


def _own_at_hand() -> None:
    """Bring what a user always has at hand, see `quietly`."""
    quietly(own.bring_usual, Path(typer.get_app_dir("ep-hw")))


def quietly(bring: Callable, brought: object) -> None:
    """Bring what a user has; what that prints, or fails with, is for no line that is being typed."""
    with suppress(Exception), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        bring(brought)


def _of_plugins(registry: str) -> Iterable[str]:
    """Names in a registry of a module that plug-ins load; none before."""
    module, _, name = registry.rpartition(".")
    return getattr(sys.modules.get(f"ep_hw.{module}"), name, ())


def _below(start: str, end: str) -> list[str]:
    """Files whose paths begin and end so, in the folders below too."""
    return [place for depth in range(DEPTH + 1) for place in sorted(glob(f"{escape(start)}{'*/' * depth}*{end}"))]


def _beginning(start: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(start)]


class WholeWords(BashComplete):
    """Completion in bash, which takes words apart at `BREAKS` and completes the last part alone."""

    name = "bash"

    def get_completion_args(self) -> tuple[list[str], str]:
        """See `BashComplete.get_completion_args`."""
        args, part = super().get_completion_args()
        *whole, word = joined([*args, part])
        value = word.partition("=")[2] if word.startswith("--") and "=" in word else word
        self._there = value[:len(value) - (0 if set(part) <= set(BREAKS) else len(part))]
        return whole, word

    def format_completion(self, item: CompletionItem) -> str:
        """See `BashComplete.format_completion`; what bash holds apart stays there."""
        return str(item.value).removeprefix(self._there)


def joined(parts: Iterable[str]) -> list[str]:
    """Words whose parts bash took apart; the last is the one that is being typed, and empty if not begun."""
    words: list[str] = []
    open_ended = False   # whether the next part belongs to the last word
    for part in parts:
        is_break = bool(part) and set(part) <= set(BREAKS)
        if words and part and (is_break or open_ended):
            words[-1] += part
        else:
            words.append(part)
        open_ended = is_break
    return words
