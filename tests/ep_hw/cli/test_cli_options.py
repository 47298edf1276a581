"""Options of every command: numbers are plain, finite and within their range, and an option counts once."""

import pytest
import typer
from typer.main import get_command

from ep_hw.cli.commands import app
from mapping import Refusal

COMMANDS = get_command(app).commands
FILLED = {"model": "digits", "recipe": "digits", "name": "age", "runs": "a", "first": "reference", "second": "loihi",
          "names": "pcm", "file": "a.pt", "run": "a"}
ODD = ("nan", "inf", "1e400", "-1", "0x1", "1_0", "\u0661", " 1", "1e10", "10000000000", "18446744073709551616", "")


def parse(name: str, *options: str) -> dict:
    """What a command would be called with; nothing is run."""
    command = COMMANDS[name]
    given = [FILLED[param.name] for param in command.params if param.param_type_name == "argument"]
    for param in command.params:
        if param.required and param.param_type_name == "option" and param.opts[0] not in options:
            given += [param.opts[0], "x"]
    return command.make_context(name, [*given, *options]).params


def options(numeric: bool):
    found = [(name, param) for name, command in COMMANDS.items() for param in command.params
             if param.param_type_name == "option" and param.name != "help"]
    kinds = (int, float, list[int], list[float])
    return [pytest.param(name, param, id=f"{name} --{param.name}") for name, param in found
            if not numeric or param.type_descriptor.annotation in kinds]


@pytest.mark.parametrize(("name", "param"), options(numeric=True))
def test_every_number_is_plain_finite_and_in_range(name, param):
    for text in ODD:
        with pytest.raises(typer.TyperException, match="number from"):
            parse(name, param.opts[0], text)
    assert param.default is None or parse(name)[param.name] == param.default


@pytest.mark.parametrize(("name", "param"), options(numeric=False))
def test_an_option_counts_once_unless_it_is_repeatable(name, param):
    value = [] if param.is_flag else ["1"] if param.type_descriptor.annotation in (int, float) else ["true"]
    if param.multiple:
        assert "(repeatable)" in param.help or "of Loihi machines" in param.help
        return
    with pytest.raises(Refusal, match=f"{param.opts[0]}: an option is given twice"):
        parse(name, param.opts[0], *value, param.opts[0], *value)
