"""Families: packaged models of one data set and size, of every kind that the paper compares, each from several seeds.

    digits    digits-ep-s11 .. s31    digits-bp-s11 .. s31    digits-adv05-s11 ..    digits-vit-s11 .. s31    ...
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FOLDER = "family"   # in the folder of an evaluation: the other members, each in a folder of its own
EP, BP = "EP-CNN", "BP-CNN"
ADVERSARIAL = ("Adv-CNN(0.5)", "Adv-CNN(1.0)")
VIT = "ViT"
SEEDS = 5   # of each kind in the paper
NOISE_TRAINED = ", noise-trained"   # after the kind of a network that was trained again with noisy weights
KINDS = {"bp": BP, "adv05": ADVERSARIAL[0], "adv10": ADVERSARIAL[1], "vit": VIT, "ep": EP}   # in the paper's words


def kind_of(provenance: Mapping[str, Any]) -> str:
    """What the paper calls networks of a kind, by a checkpoint's header; the recipe's kind where it has no name."""
    kind = str(provenance["recipe"].get("kind", "ep"))
    return KINDS.get(kind, kind)


@dataclass(frozen=True)
class Member:
    """A network of a family.

    Attributes:
        model: its name, or its file.
        kind: what the paper calls networks of its kind.
    """

    model: str
    kind: str


def members(model: str, names: Iterable[str]) -> tuple[Member, ...]:
    """The other members of an EP network's family, kind by kind; empty where it has none.

    Args:
        model: the name of the EP network that is compiled to hardware.
        names: of packaged models.
    """
    pattern = re.compile(rf"{re.escape(model)}-({'|'.join(KINDS)})(-s\d+)?")
    family = [Member(name, KINDS[match[1]]) for name in names if (match := pattern.fullmatch(name))]
    return tuple(sorted(family, key=lambda member: list(KINDS.values()).index(member.kind)))


def one_of_each(family: Iterable[Member]) -> tuple[Member, ...]:
    """The first baseline of each kind, without EP networks."""
    first = {member.kind: member for member in reversed(tuple(family)) if member.kind != EP}
    return tuple(reversed(first.values()))


def noise_trained(model: str, names: Iterable[str]) -> str | None:
    """The packaged network that was trained as `model` was, but with noisy weights: NAME-noise, whatever the seeds."""
    base = re.sub(r"-s\d+$", "", model)
    return next((name for name in names if re.fullmatch(rf"{re.escape(base)}-noise(-s\d+)?", name)), None)


def protocol_members(model: str, kind: str, names: Sequence[str], alone: bool = False) -> tuple[Member, ...]:
    """Those beside a network whose adversarial success is measured: its first BP-CNN, and the noise-trained of both.

    Args:
        model: name of the network.
        kind: of the network.
        names: of packaged models.
        alone: without the BP-CNN.
    """
    bp = [member for member in one_of_each(members(model, names)) if member.kind == BP and not alone]
    originals = [Member(model, kind), *bp]
    return (*bp, *(Member(again, one.kind + NOISE_TRAINED) for one in originals
                   if (again := noise_trained(one.model, names))))
