"""Threats by name: `clean`, a corruption made here or published, an attack, or an attack made on another machine.

    clean    jpeg_compression@3    official:fog@3    pgd_l2@0.5    pgd_linf@8/255    transfer:reference:pgd_l2@0.5

`pgd_unclipped_l2` and `pgd_unclipped_linf` let pixels leave [0, 1], as published results on EP networks did.
"""

from dataclasses import dataclass

from ep_hw.threats.corruptions import ALIASES, CORRUPTIONS
from mapping.errors import Refusal
from mapping.options import number, spell_number
from mapping.registry import parse as parse_target

ATTACKS = ("pgd_l2", "pgd_linf", "pgd_unclipped_l2", "pgd_unclipped_linf", "cw_l2", "deepfool_l2", "square_l2",
           "square_linf", "autoattack_l2", "autoattack_linf")
WEAKEST, STRONGEST = 1e-6, 100.0   # attacks, besides those of strength 0; pixels in float32 tell 6e-8 apart
OFFICIAL = "official:"   # before the name of a corruption whose published images are read


@dataclass(frozen=True)
class Threat:
    """What is done to an image. `strength` is 0 for clean images, a severity, eps in units of [0, 1] pixels, or the
    price c of the Carlini-Wagner attack.

    `source` names the machine an attack is made on; None means the machine under test itself.
    """

    kind: str
    strength: float = 0.0
    source: str | None = None

    @property
    def name(self) -> str:
        return self.kind if self.source is None else f"transfer:{self.source}:{self.kind}"

    @property
    def is_attack(self) -> bool:
        return self.kind in ATTACKS

    @property
    def is_white_box(self) -> bool:
        """Whether it uses gradients of the machine under test."""
        return self.is_attack and self.source is None and not self.kind.startswith("square")

    @property
    def is_corruption(self) -> bool:
        return self.corruption in CORRUPTIONS

    @property
    def is_official(self) -> bool:
        """Whether its images are read from a published set."""
        return self.kind.startswith(OFFICIAL)

    @property
    def corruption(self) -> str:
        """The name of a corruption, wherever its images come from."""
        return self.kind.removeprefix(OFFICIAL)

    @property
    def is_unclipped(self) -> bool:
        """Whether its images may leave [0, 1]."""
        return self.kind.startswith("pgd_unclipped")

    @property
    def norm(self) -> str:
        """"l2" or "linf", of an attack."""
        return self.kind.rsplit("_", 1)[1]

    def __str__(self):
        return self.name if self.kind == "clean" else f"{self.name}@{spell_number(self.strength)}"


CLEAN = Threat("clean")


def parse_threat(text: str) -> Threat:
    """The threat named by `text`.

    Raises:
        Refusal: unknown name, or a strength that is missing or out of range.
    """
    name, at, strength = text.partition("@")
    source = None
    if name.startswith("transfer:"):
        source, _, name = name.removeprefix("transfer:").rpartition(":")
        source = str(parse_target(source))
    official = OFFICIAL if name.startswith(OFFICIAL) and not source else ""
    bare = name.removeprefix(official)
    kind = official + ALIASES.get(bare, bare)
    known = ATTACKS if source else CORRUPTIONS if official else ("clean", *CORRUPTIONS, *ATTACKS)
    if kind.removeprefix(official) not in known:
        raise _refusal("unknown threat", text)
    if kind == "clean":
        if at:
            raise _refusal("clean images have no strength", text)
        return CLEAN
    threat = Threat(kind, _number(strength, text), source)
    if threat.is_corruption and threat.strength not in (1, 2, 3, 4, 5):
        raise _refusal("severity out of range", text)
    if threat.is_attack and threat.strength != 0 and not WEAKEST <= threat.strength <= STRONGEST:
        raise _refusal("eps out of range", text)
    return threat


def _number(text: str, whole: str) -> float:
    top, slash, bottom = text.partition("/")
    try:
        return number(top) / (number(bottom) if slash else 1)
    except (ValueError, ZeroDivisionError):
        raise _refusal("strength is not a number", whole) from None


def _refusal(what: str, text: str) -> Refusal:
    return Refusal(what, where="threat", got=repr(text),
                   allowed=f"clean; {', '.join(CORRUPTIONS)} @ 1 to 5; the same as {OFFICIAL}NAME@1 to 5; "
                           f"{', '.join(ATTACKS)} @ eps 0 or {WEAKEST:g} to {STRONGEST:g}; transfer:MACHINE:ATTACK@eps",
                   remedy="write it as pgd_l2@0.5, pgd_linf@8/255 or jpeg_compression@3")
