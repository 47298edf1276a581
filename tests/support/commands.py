"""Command lines out of helps and pages: whether the names in them are known, and what they do at a small size.

Those in `ELSEWHERE` are run by other tests, and those in `PARSED` by none. All others run as they stand but for
`SMALL`: some in every run of the tests, the rest by

    uv run pytest -m shown
"""

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
SMALL = {"images": 4, "chips": 1, "iterations": 2, "queries": 10, "eot": 1, "votes": 1, "draws": 2, "sweeps": 25,
         "reads": 4, "learn": 4, "batch": 2, "epochs": 1, "jobs": 1, "cluster": "local:1"}
# options that only say how much, or where
ELSEWHERE = {   # a command or a page -> the test that runs it
    "demo": "tests/ep_hw/cli/test_cli.py, on fewer images; .ci/smoke.py", "data.md": "tests/test_data_doc.py",
    "devices.md": "tests/test_devices_doc.py"}
PARSED = {   # how a command begins -> why nothing runs it
    "train digits": "a recipe takes minutes; docs/data.md trains a smaller one",
    "evaluate digits --suite lammie": "takes ten minutes; tests/ep_hw/evaluation/test_envelope.py has smaller grids",
    "study feedback": "25 networks; tests/ep_hw/studies/test_networks.py has three small ones",
    "study wires": "operating points of 60 chips take many minutes; tests/ep_hw/studies has smaller ones",
    "train mnist": "takes a data set of the reader's", "study age --cluster": "takes a cluster of the reader's"}
_PROMPT = re.compile(r"^(?:pip install uv && )?(?:uv run )?ep-hw ")


def lines_of(page: str) -> list[list[str]]:
    """The `ep-hw` commands in a page's sh and bash blocks, as lists of arguments."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", "").splitlines()]
    return [shlex.split(_PROMPT.sub("", line), comments=True) for line in lines if _PROMPT.match(line)]


def examples_of(name: str) -> list[list[str]]:
    """The examples in a command's help, as lists of arguments."""
    return [shlex.split(line)[1:] for line in COMMANDS[name].epilog.splitlines()]


def smaller(arguments: list[str]) -> list[str]:
    """A command line with the sizes of `SMALL` in place of its own."""
    name, *given = arguments
    lowered = [param for param in COMMANDS[name].params if param.name in SMALL and not param.multiple]
    for param in lowered:
        while param.opts[0] in given:
            place = given.index(param.opts[0])
            del given[place:place + 2]
    return [name, *given, *(f"{param.opts[0]}={SMALL[param.name]}" for param in lowered
                            if param.name != "cluster" or "--cluster" in arguments)]


def reason_not_to_run(arguments: list[str]) -> str | None:
    """Why a command is not run by the tests of helps and pages; None where it is."""
    line = " ".join(arguments)
    return ELSEWHERE.get(arguments[0]) or next((why for start, why in PARSED.items() if line.startswith(start)), None)


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
