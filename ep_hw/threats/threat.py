"""Threats by name: `clean`, a corruption made here or published, an attack, or an attack made on another machine.

    clean    jpeg_compression@3    official:fog@3    pgd_l2@0.5    pgd_linf@8/255    transfer:reference:pgd_l2@0.5

`pgd_unclipped_l2` and `pgd_unclipped_linf` let pixels leave [0, 1], as published results on EP networks did.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ep_hw.threats import registry
from ep_hw.threats.corruptions.packaged import ALIASES
from ep_hw.threats.definitions import SEVERITY, AnyCorruption, Attack
from ep_hw.threats.registry import ATTACKS, CORRUPTIONS
from mapping.errors import Refusal
from mapping.names import suggesting
from mapping.options import number, spell_number
from mapping.registry import parse as parse_target

OFFICIAL = "official:"   # before the name of a corruption whose published images are read
TRANSFER = "transfer:"   # before the name of the machine that an attack was made on


@dataclass(frozen=True)
class Threat:
    """What is done to an image.

    Attributes:
        kind: a registered attack or corruption, the latter with `OFFICIAL` before it where its published images are
            read, or "clean".
        strength: 0 for clean images; what it means for others their definition says.
        source: the machine that an attack is made on; None for the machine under test itself.
    """

    kind: str
    strength: float = 0.0
    source: str | None = None

    @property
    def name(self) -> str:
        return self.kind if self.source is None else f"{TRANSFER}{self.source}:{self.kind}"

    @property
    def label(self) -> str:
        """Its name and strength as tables show them, the strength to six digits."""
        return f"{self.name}@{self.strength:g}" if self.strength else self.name

    @classmethod
    def named(cls, name: str, strength: float) -> "Threat":
        """The threat of that `name`, whether or not it is registered here: results may tell of someone else's."""
        if not name.startswith(TRANSFER):
            return cls(name, strength)
        source, _, kind = name.removeprefix(TRANSFER).rpartition(":")
        return cls(kind, strength, source)

    def on(self, names: Mapping[str, str]) -> "Threat":
        """The same, its source under another name where there is one for it."""
        return self if self.source is None else replace(self, source=names.get(self.source, self.source))

    @property
    def definition(self) -> Attack | AnyCorruption:
        """The attack or corruption as it was registered.

        Raises:
            Refusal: clean images, or what is not registered here.
        """
        known = ATTACKS.get(self.kind) or CORRUPTIONS.get(self.corruption)
        if known is None:
            raise Refusal("no such attack or corruption is registered", where="threat", got=str(self),
                          allowed=", ".join((*CORRUPTIONS, *ATTACKS)), remedy="register it first")
        return known

    @property
    def attack(self) -> Attack:
        """The definition of an attack.

        Raises:
            Refusal: it is none that is registered here.
        """
        if not isinstance(self.definition, Attack):
            raise Refusal("not an attack", where="threat", got=str(self), allowed=", ".join(ATTACKS),
                          remedy="choose one of these")
        return self.definition

    @property
    def code(self) -> tuple[str, int]:
        """Name and version of the code that makes its images."""
        return (registry.CLEAN, 1) if self.kind == registry.CLEAN else (self.definition.code, self.definition.version)

    @property
    def is_attack(self) -> bool:
        return self.kind in ATTACKS

    @property
    def is_direct(self) -> bool:
        """Whether it is an attack made on the machine under test itself: no transfer."""
        return self.is_attack and self.source is None

    @property
    def is_white_box(self) -> bool:
        """Whether it uses gradients of the machine under test."""
        return self.is_direct and self.attack.access == "white box"

    @property
    def is_black_box(self) -> bool:
        """Whether it asks the machine under test, and sees its outputs only."""
        return self.is_direct and self.attack.access == "black box"

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
        return self.is_attack and not self.attack.clips

    @property
    def norm(self) -> str:
        """"l0", "l2" or "linf", in which it is measured how far an image was moved."""
        return self.attack.norm if self.is_attack else "l2"

    def __str__(self):
        return self.name if self.kind == registry.CLEAN else f"{self.name}@{spell_number(self.strength)}"


CLEAN = Threat(registry.CLEAN)


def parse_threat(text: str) -> Threat:
    """The threat named by `text`.

    Raises:
        Refusal: unknown name, or a strength that is missing or out of range.
    """
    name, at, strength = text.partition("@")
    written = Threat.named(name, 0.0)
    source = None if written.source is None else str(parse_target(written.source))
    official = OFFICIAL if written.is_official and not source else ""
    bare = written.kind.removeprefix(official)
    kind = official + ALIASES.get(bare, bare)
    known = ATTACKS if source else CORRUPTIONS if official else (registry.CLEAN, *CORRUPTIONS, *ATTACKS)
    if (bare := kind.removeprefix(official)) not in known:
        raise _refusal("unknown threat", text, bare, known)
    if kind == registry.CLEAN:
        if at:
            raise _refusal("clean images have no strength", text)
        return CLEAN
    threat = Threat(kind, _number(strength, text), source)
    if not threat.definition.strength.allows(threat.strength):
        raise _refusal(f"{threat.definition.strength.label} out of range", text)
    return threat


def _number(text: str, whole: str) -> float:
    top, slash, bottom = text.partition("/")
    try:
        return number(top) / (number(bottom) if slash else 1)
    except (ValueError, ZeroDivisionError):
        raise _refusal("strength is not a number", whole) from None


def _refusal(what: str, text: str, name: str = "", known: Iterable[str] = ()) -> Refusal:
    """Of a text; where its name is unknown, also that name and those that could stand there."""
    attacks = "; ".join(f"{name} @ {attack.strength}" for name, attack in ATTACKS.items())
    return Refusal(what, where="threat", got=repr(text), **suggesting(
        name, known, remedy="write it as pgd_l2@0.5 or jpeg_compression@3; one of your own needs --plugin FILE.py",
        allowed=f"clean; {', '.join(CORRUPTIONS)} @ {SEVERITY}; the same as {OFFICIAL}NAME; {attacks}; "
                f"{TRANSFER}MACHINE:ATTACK"))
