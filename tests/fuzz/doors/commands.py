"""The door of the command line: every number and every name of every command, made absurd."""

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module

from typer.main import get_command

from ep_hw import cli
from ep_hw.cli.application import app
from mapping.errors import Refusal
from tests.fuzz.door import Door
from tests.fuzz.edits import Edited

ABSURD = {"number": ("-1", "1e400", "nan", "-inf", str(10**18), str(2**64), "9" * 5000, "", "x", "0x10", "\u202e1"),
          "name": ("", "\x1b[31mred", "../../etc/passwd", "x" * 5000, "[/bold]", "$\\frac{$", "\udc80", "a\nb", "[",
                   "crossbar:pcm[age=1e400]", "=loihi", "../x=loihi",
                   "loihi[state_bits=8,state_bits=9]", "clean@3", "pgd_l2@nan", "-"),
          "place": ("/dev/null/new", "/proc/new", "x" * 300, "\x1b[31mred\udc80/../" + "x" * 300)}
UNREAD = ("data_root",)   # of data that are packaged nothing is read
IMPORTED_LATE = ("ep_hw.cli.commands", "ep_hw.demo", "ep_hw.measurements", "ep_hw.studies.execution",   # by commands
                 "ep_hw.learning.in_situ.run", "ep_hw.diagnosis", "ep_hw.workflow")
ARGUMENTS = {"model": "digits", "recipe": "digits", "name": "age", "file": "nothing.pt", "first": "reference",
             "second": "loihi", "runs": "nothing", "names": "pcm", "run": "nothing"}
NEEDED = {"compile": ["--on=loihi", "--out=new"], "train": ["--out=new"],
          "export": ["--out=new", "--to=spice", "--on=crossbar:ideal", "--layer=conv1"],
          "import": ["--out=new", "--map=laborieux"], "transfer": ["--on=reference", "--on=loihi"],
          "images": ["--on=reference", "--threat=pgd_l2@0.5"]}


class Command(Door):
    """One value of one command; a value that is taken would run for minutes, so every one of these must be refused."""

    name = "command"

    @property
    def edits(self):
        return (self.absurd,)

    @cached_property
    def places(self) -> list[tuple[list[str], str]]:
        """(command line with "{}" where a value goes, what it should be)."""
        return [place for name, command in get_command(app).commands.items() for place in _places(name, command)]

    def make(self):
        for name in IMPORTED_LATE:
            import_module(name)
        return [{"argv.json": b"[]"}]

    @property
    def good(self):
        return [(self.make()[0], "a refusal")]

    def absurd(self, rng, files):
        """One value that no one means."""
        line, kind = rng.choice(self.places)
        argv = [part.replace("{}", rng.choice(ABSURD[kind])) for part in line]
        return Edited(f"ep-hw {argv!r:.160}", {"argv.json": json.dumps(argv).encode()})

    def open(self, folder):
        argv, out, error = json.loads((folder / "argv.json").read_text()), io.StringIO(), io.StringIO()
        sys.argv = ["ep-hw", *argv]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                cli.main()
            except SystemExit as ended:
                code = ended.code
        said = error.getvalue()
        if code == 2 and re.fullmatch(r"ep-hw: [^\x00-\x1f\x7f-\x9f\u202a-\u202e]+\n", said):
            raise Refusal(said, where="command", got="", allowed="", remedy="")
        if code == 0:
            return said
        raise AssertionError(f"exit {code}: {said!r:.200}")


def _places(name: str, command) -> Iterator[tuple[list[str], str]]:
    """The values of one command."""
    arguments = {param.name: ARGUMENTS[param.name] for param in command.params if param.param_type_name == "argument"}
    for param in command.params:
        option = f"{param.opts[0]}="
        options = [part for part in NEEDED.get(name, []) if not part.startswith(option)]
        if param.name in arguments:
            yield [name, *options, "--", *{**arguments, param.name: "{}"}.values()], "name"
        elif not param.is_flag and param.name not in UNREAD:
            yield [name, *options, option + "{}", "--", *arguments.values()], _kind(param)


def _kind(param) -> str:
    """Of the values of an option."""
    if param.name == "out":
        return "place"
    return "number" if param.type_descriptor.annotation in (int, float, list[int], list[float]) else "name"


DOORS = (Command(),)
