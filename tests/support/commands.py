"""Command lines out of helps and pages: what each would be called with, and whether the names in it are known."""

import re
import shlex
from collections.abc import Callable, Collection
from copy import copy

from typer.main import get_command

import mapping
from ep_hw.cli.commands import app
from ep_hw.data.registry import data_set
from ep_hw.evaluation.suites import suite
from ep_hw.learning.training.recipe import load_recipe
from ep_hw.networks.checkpoint import model_names
from ep_hw.studies.study import load_study
from ep_hw.threats import parse_threat
from ep_hw.threats.attacks import parse_gradient
from ep_hw.threats.threat import Threat
from mapping.labels import split_label

COMMANDS = get_command(app).commands
OWN = ("--devices", "--plugin")   # bring names that are known only where their files are
_PROMPT = re.compile(r"^(?:pip install uv && )?(?:uv run )?ep-hw ")


def lines_of(page: str) -> list[list[str]]:
    """The `ep-hw` commands in a page's sh and bash blocks, as lists of arguments."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [shlex.split(_PROMPT.sub("", line), comments=True) for line in lines if _PROMPT.match(line)]


def examples_of(name: str) -> list[list[str]]:
    """The examples in a command's help, as lists of arguments."""
    return [shlex.split(line)[1:] for line in COMMANDS[name].epilog.splitlines()]


def _unasked(param):
    """The parameter, without the command line's own look-up of the names in it: `check` knows what was made."""
    param = copy(param)
    param.callback = None
    return param


def check(arguments: list[str], made: Collection[str] = ()) -> dict:
    """Parse a command line, and every name in it that stands for nothing that was made; nothing is run.

    Args:
        made: folders and files that commands before it wrote, and files that are shown beside it.

    Returns:
        What the command would be called with.

    Raises:
        Refusal: a name is not known.
        TyperException: there is no such option, or a value is out of its range.
    """
    name, *given = arguments
    assert name in COMMANDS, f"{name} is no command"
    own = [place for place, argument in enumerate(given) if argument in OWN]
    command = copy(COMMANDS[name])
    command.params = [_unasked(param) if param.name in KNOWN else param for param in command.params]
    params = command.make_context(name, [argument for place, argument in enumerate(given)
                                         if place not in own and place - 1 not in own]).params
    for kind, known in KNOWN.items():
        for value in [] if own else _each(params.get(kind)):
            if value not in made:
                known(name, value)
    return params


def _each(value: object) -> list[str]:
    several = value if isinstance(value, list | tuple) else () if value is None else (value,)
    return [str(one) for one in several]


def _machine(command: str, name: str) -> None:
    mapping.parse(split_label(name)[1])


def _model(command: str, name: str) -> None:
    assert name in model_names(), f"{name} is no packaged model, and nothing made it"


def _name(command: str, name: str) -> None:
    readers: dict[str, Callable] = {"study": load_study, "data": data_set, "machines": mapping.parse}
    readers.get(command, str)(name)


def _threat(command: str, name: str) -> None:
    assert isinstance(parse_threat(name), Threat)


def _made(command: str, name: str) -> None:
    raise AssertionError(f"nothing made {name}")


KNOWN = {"on": _machine, "first": _machine, "second": _machine, "model": _model, "other": _model, "name": _name,
         "recipe": lambda command, name: load_recipe(name), "suite": lambda command, name: suite(name),
         "attack": _threat, "corruption": _threat, "threat": _threat, "explain": _threat,
         "gradient": lambda command, name: parse_gradient(name), "data": lambda command, name: data_set(name),
         "runs": _made, "run": _made, "program": _made, "file": _made}
