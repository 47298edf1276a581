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


def shown_names(targets: Iterable[Target], taken: Iterable[str] = ()) -> dict[str, str]:
    """Full name -> what a machine is called among these: its label, or its name with the options that not all of its
    name and without a label share.

    Args:
        targets: of machines that are shown beside each other.
        taken: full names of others, which none of these may be called.

    Raises:
        Refusal: two machines of one label, two labels of one machine, or a label that is another one's name.
    """
    full: dict[str, Target] = {}
    for target in targets:
        first = full.setdefault(str(target), target)
        if first.label != target.label:
            raise _refusal("a machine has two labels", str(target), f"{first.shown} and {target.shown}")
    plain = [target for target in full.values() if not target.label]
    names = {name: target.label or _short(target, plain) for name, target in full.items()}
    called: dict[str, str] = {}
    for name, shown in names.items():
        if called.setdefault(shown, name) != name and full[name].label:
            raise _refusal("two machines have one label", shown, f"{called[shown]} and {name}")
    clear = {*full, *taken}
    return {name: shown if full[name].label or shown == name or shown not in clear else name
            for name, shown in names.items()}


def _refusal(what: str, where: str, got: str) -> Refusal:
    return Refusal(what, where=where, got=got, allowed="a label of its own for each machine",
                   remedy="give another label, or none")


def _short(target: Target, others: Iterable[Target]) -> str:
    """A machine's name without the options that all others of its name have too; the full name of one that has no
    such other.
    """
    alike = [other.chosen for other in others if other.name == target.name]
    told = {option: text for option, text in target.chosen.items()
            if len(alike) == 1 or any(own.get(option) != text for own in alike)}
    return target.name + (f"[{','.join(f'{option}={text}' for option, text in told.items())}]" if told else "")
