"""Where a command writes: the folder that belongs to what it was asked."""

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mapping.labels import labels_of

if TYPE_CHECKING:   # loads torch
    from ep_hw.evaluation.folders import Question

PLACES = ("out", "jobs", "cluster", "data", "data_root", "download", "each_chip", "dry_run", "only", "again")
# decide no answer; data do by their digest


def asked(context: typer.Context, images: str, *digests: object) -> "Question":
    """The question of a command: its parameters, without `PLACES` and labels, and the digests of what they stand for.

    Args:
        context: of the command.
        images: digest of the images that the answer is about.
        digests: of networks, or plain values that decide the answer.
    """
    from ep_hw.evaluation.folders import Question, command_line

    known = labels(context)
    given = {name: _without(known, value) for name, value in context.params.items() if name not in PLACES}
    return Question.of(command_line(), [context.info_name, given, *digests], images)


def labels(context: typer.Context) -> dict[str, str]:
    """Label -> machine, of those that a command is told by --on.

    Raises:
        Refusal: see `labels_of`.
    """
    on = context.params.get("on") or []
    return labels_of([on] if isinstance(on, str) else on)


def _without(labels: Mapping[str, str], value: object) -> object:
    """A parameter with machines in place of the labels that they have there."""
    if isinstance(value, list):
        return [_without(labels, one) for one in value]
    for label, machine in labels.items():
        if value in (label, f"{label}={machine}"):
            return machine
        if isinstance(value, str) and value.startswith(source := f"transfer:{label}:"):
            return f"transfer:{machine}:{value.removeprefix(source)}"
    return value


def place(context: typer.Context, name: str, question: "Callable[[], Question]") -> Path:
    """The folder named by --out, or else by the command, by `name` (of the model or study) and the time."""
    from ep_hw.evaluation.folders import folder_for

    return context.params["out"] or folder_for(context.info_name or "", name, question, datetime.now())


def claimed(context: typer.Context, name: str, question: "Question") -> Path:
    """`place`, taken for the question until the command ends, see `ep_hw.evaluation.folders.claimed`.

    Raises:
        Refusal: see `ep_hw.evaluation.folders.claim`.
    """
    from ep_hw.evaluation import folders

    folder = place(context, name, lambda: question)
    context.with_resource(folders.claimed(folder, question))
    return folder
