"""What machines are called where they are shown: by a label of the user, as `mine=crossbar:pcm[age=1d]`, or by what
differs between them. Keys, files of programs and options know the full names alone.
"""

import re
from collections.abc import Iterable

from mapping.errors import Refusal
from mapping.targets import Target

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,38}[A-Za-z0-9_+-]|[A-Za-z0-9]")


def split_label(text: str) -> tuple[str, str]:
    """The label of `mine=crossbar:pcm[age=1d]` and its machine; "" where there is none.

    Raises:
        Refusal: what stands before the equals sign is no label.
    """
    label, equals, machine = text.partition("=")
    if not equals or not set(label).isdisjoint("[/"):
        return "", text
    if not _LABEL.fullmatch(label):
        raise Refusal("no label of a machine", where="machine", got=repr(text),
                      allowed="1 to 40 letters, digits and _ . + -, beginning with a letter or digit and not ending in "
                              "a dot", remedy="write it as mine=crossbar:pcm[age=1d]")
    return label, machine


def labels_of(machines: Iterable[str]) -> dict[str, str]:
    """Label -> the machine that it stands for, of those that have one.

    Raises:
        Refusal: what is no label, or two machines of one.
    """
    named: dict[str, str] = {}
    for label, machine in map(split_label, machines):
        if label and named.setdefault(label, machine) != machine:
            raise _refusal("two machines have one label", label, f"{named[label]} and {machine}")
    return named


def shown_names(targets: Iterable[Target]) -> dict[str, str]:
    """Full name -> what a machine is called among these: its label, or its name with the options that not all of its
    name and without a label share, as `crossbar:pcm[age=1d,...]`, which is no machine's full name.

    Args:
        targets: of machines that are shown beside each other.

    Raises:
        Refusal: two machines of one label, or two labels of one machine.
    """
    full: dict[str, Target] = {}
    for target in targets:
        first = full.setdefault(str(target), target)
        if first.label != target.label:
            raise _refusal("a machine has two labels", str(target), f"{first.shown} and {target.shown}")
    labels: dict[str, str] = {}
    for name, target in full.items():
        if target.label and labels.setdefault(target.label, name) != name:
            raise _refusal("two machines have one label", target.label, f"{labels[target.label]} and {name}")
    plain = [target for target in full.values() if not target.label]
    return {name: target.label or _short(target, plain) for name, target in full.items()}


def _refusal(what: str, where: str, got: str) -> Refusal:
    return Refusal(what, where=where, got=got, allowed="a label of its own for each machine",
                   remedy="give another label, or none")


def _short(target: Target, others: Iterable[Target]) -> str:
    """A machine's name with dots in place of the options that all others of its name have too; the full name of one
    that has no such other.
    """
    alike = [other.chosen for other in others if other.name == target.name]
    told = [f"{option}={text}" for option, text in target.chosen.items()
            if len(alike) == 1 or any(own.get(option) != text for own in alike)]
    left_out = ["..."] * (len(told) < len(target.chosen))
    return target.name + (f"[{','.join([*told, *left_out])}]" if target.chosen else "")
