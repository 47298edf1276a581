"""Help: every command stands in one group, says in one line what it does, where it writes, and shows what to type."""

import re
import shlex
import subprocess
import sys

import pytest
from commands import COMMANDS, check, examples_of, reason_not_to_run, smaller
from lab import LAB
from registries import restored
from typer import TyperException

from ep_hw.cli.application import FORMER, GROUPS, summary
from ep_hw.cli.completion import joined
from ep_hw.networks.own import MODULES
from ep_hw.threats.registry import ATTACKS
from mapping import REGISTRY, load_program
from mapping.crossbar.presets import PRESETS
from mapping.errors import Refusal
from mapping.program import FILE

WIDTH = 80
MADE = ["run-1", "run-2", "prog-pcm", "pt/digits.pt"]   # by examples of other commands
QUICK = ("machines", "models", "data", "compile", "export", "import", "cost")   # run at every run of the tests
RUNS = ("evaluate digits --on loihi --attack pgd_l2@0.5 --alone --out run-1",
        "evaluate digits --on loihi --on crossbar:pcm --corruption fog@3 --alone --out run-2")
BEFORE = {"import": ("export digits --out pt",), "images": RUNS, "compare": RUNS}   # what examples need


def test_every_command_stands_in_one_group():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def test_the_list_of_commands_cuts_no_line(ep_hw):
    _, out, _ = ep_hw("-h")
    assert "..." not in out.partition("Ask:")[2]
    for name, command in COMMANDS.items():
        assert f"  {name.ljust(11)}  {summary(command)}\n" in out
        assert summary(command).endswith(".")
    assert max(map(len, out.splitlines())) <= WIDTH


@pytest.mark.parametrize("name", COMMANDS)
def test_a_help_shows_two_examples_that_stand(ep_hw, name):
    """Each on a line of a terminal, with options that there are and names that are known."""
    _, out, _ = ep_hw(name, "-h")
    shown = [line.strip() for line in out.partition("Examples:\n")[2].splitlines()]
    assert [shlex.split(line)[1:] for line in shown] == examples_of(name)
    assert len(shown) == 2
    assert all(line.startswith(f"ep-hw {name}") and len(line) <= WIDTH - 2 for line in shown)
    for arguments in examples_of(name):
        check(arguments, MADE)


@pytest.mark.parametrize("wrong", ["evaluate digits --on lohi", "evaluate digits --attack pgd_l3@1", "cost digit",
                                   "train digitz --out x", "compare nothing", "evaluate digits --fast"])
def test_the_check_sees_what_does_not_stand(wrong):
    with pytest.raises((Refusal, AssertionError, TyperException), match=r"unknown|no |nothing made|No such"):
        check(wrong.split(), MADE)


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.shown)
                                  for name in COMMANDS])
def test_examples_run(ep_hw, name):
    """One after the other, at the sizes of `commands.SMALL`."""
    for arguments in [*(line.split() for line in BEFORE.get(name, ())), *examples_of(name)]:
        if not reason_not_to_run(arguments):
            code, out, err = ep_hw(*smaller(arguments))
            assert code == 0, err
            assert out


def test_sizes_are_lowered_and_nothing_else():
    line = shlex.split('evaluate digits --on "old=loihi" --images 50 --attack fog@3 --chips 3 --cluster tcp://10.0.0.7:1')
    assert smaller(line) == ["evaluate", "digits", "--on", "old=loihi", "--attack", "fog@3", "--images=4", "--chips=1",
                             "--iterations=2", "--queries=10", "--eot=1", "--votes=1", "--jobs=1", "--cluster=local:1"]
    assert smaller(["models", "cifar10"]) == ["models", "cifar10"]


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items()
                                  if any(param.name == "out" for param in command.params)])
def test_a_command_that_writes_says_where(ep_hw, name):
    """A place is asked for, or there is one by default, or it is said that nothing is written."""
    _, out, _ = ep_hw(name, "-h")
    place = " ".join(out.partition("  --out ")[2].partition("\n  --")[0].split())
    assert "[required]" in place or "[default: " in place


@pytest.mark.parametrize(("former", "now"), [
    ("compile digits --target loihi --out p", "compile digits --on loihi --out p"),
    ("compile digits --target=loihi --out p", "compile digits --on=loihi --out p"),
    ("images run --machine loihi --threat fog@3", "images run --on loihi --threat fog@3"),
    ("tune digits --chip-seed 3 --chip-seed 4", "tune digits --chip 3 --chip 4")])
def test_options_go_by_their_former_names_too(ep_hw, former, now):
    name, *given = former.split()
    parsed = [COMMANDS[name].make_context(name, line).params for line in (given, now.split()[1:])]
    assert parsed[0] == parsed[1]
    assert not any(option in ep_hw(name, "-h")[1] for option in FORMER[name])


def test_a_program_is_compiled_by_the_former_name(ep_hw, tmp_path):
    assert ep_hw("compile", "digits", "--target", "loihi", "--out", "prog")[0] == 0
    assert str(load_program(tmp_path / "prog").target) == "loihi"


OWN = """
from ep_hw import register_module
from ep_hw.threats import attack
print("not for a shell")

@attack(norm="linf", access="black")
def fade_away(machine, images, labels, eps, generator):
    return images

@register_module(image_shape=(1, 8, 8), classes=10)
def flat():
    return None
"""


@pytest.mark.parametrize(("typed", "offered"), [
    ("ep-hw ev", {"evaluate", "events"}),
    ("ep-hw evaluate digits --on lo", {"loihi", "loihi:states"}),
    ("ep-hw compile digits --o", {"--on", "--out"}),
    ("ep-hw why digits ref", {"reference"}),
    ("ep-hw tune digits-ep-s1", {"digits-ep-s11", "digits-ep-s13"}),
    ("ep-hw evaluate tra", {"trained-by-me.safetensors"}),
    ("ep-hw devices reram", {"reram_wan", "reram_cmo"}),
    ("ep-hw settle digits --on crossbar:p", {"crossbar:pcm"}),
    ("ep-hw evaluate digits --attack pgd", {"pgd_l2@", "pgd_linf@"}),
    ("ep-hw evaluate digits --corruption f", {"fog@", "frost@"}),
    ("ep-hw evaluate digits --corruption fog@", {"fog@1", "fog@5"}),
    ("ep-hw evaluate below/", {"below/it/deep.safetensors"}),
    ("ep-hw evaluate digits --on p", {"prog"}),
    ("ep-hw evaluate digits --on mine=crossbar:p", {"mine=crossbar:pcm"}),
    ("ep-hw evaluate digits --plugin brought.py --attack fade", {"fade_away@"}),
    ("ep-hw evaluate --plugin brought.py plug", {"plugin:flat"}),
    ("ep-hw evaluate --plugin broken.py digits-ep-s1", {"digits-ep-s11"}),
    ("ep-hw cost digits --devices lab.toml --on crossbar:l", {"crossbar:lab"})])
@pytest.mark.parametrize("apart", [False, True], ids=["zsh", "bash"])
def test_a_shell_completes_what_can_be_named(ep_hw, monkeypatch, tmp_path, typed, offered, apart):
    """Bash has taken words apart at ":", "=" and "@", and completes the last part."""
    (tmp_path / "below" / "it").mkdir(parents=True)
    (tmp_path / "prog").mkdir()
    for name in ("trained-by-me.safetensors", "below/it/deep.safetensors", f"prog/{FILE}"):
        (tmp_path / name).touch()
    for name, text in (("brought.py", OWN), ("broken.py", "1 / 0"), ("lab.toml", LAB)):
        (tmp_path / name).write_text(text)
    words = [part for word in typed.split() for part in re.findall(r"[:=@]|[^:=@]+", word)]
    asked = {"_EP_HW_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    if not apart:
        asked = {"_EP_HW_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": typed}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    with restored(REGISTRY, PRESETS, ATTACKS, MODULES):
        code, out, err = ep_hw()
    sys.modules.pop("brought", None)
    assert (code, err) == (0, "")
    if apart:
        held = re.match(".*[:=@]|", typed.split()[-1])[0]
        assert {name.removeprefix(held) for name in offered} <= set(out.split())
    else:
        assert offered <= {name.replace("\\\\", "") for name in re.findall('"(.*?)"', out)}


@pytest.mark.parametrize(("parts", "words"), [
    (["--on", "crossbar", ":", "p"], ["--on", "crossbar:p"]), (["--on", "=", "lo"], ["--on=lo"]),
    (["fog", "@", "3", "--seed", ""], ["fog@3", "--seed", ""]), (["fog", "@", ""], ["fog@", ""]),
    (["a", "=", "b", ":", "c[age", "=", "1d]"], ["a=b:c[age=1d]"]), (["--on", "whole:word"], ["--on", "whole:word"])])
def test_words_that_bash_took_apart_are_whole_again(parts, words):
    assert joined(parts) == words


def test_what_is_completed_is_what_is_known_and_loads_no_torch():
    """All threats are known before the filters of corruptions are loaded, which most workers never need."""
    script = ("import ep_hw.threats, sys; assert 'scipy.ndimage' not in sys.modules; "
              "from ep_hw.threats.registry import ATTACKS, CORRUPTIONS; "
              "from ep_hw.cli import completion as c; "
              "assert (list(c.ATTACKS), list(c.CORRUPTIONS)) == (sorted(ATTACKS), sorted(CORRUPTIONS))")
    assert subprocess.run([sys.executable, "-c", script], timeout=300).returncode == 0
    script = ("import sys; from ep_hw.cli import completion as c; assert c.models('digits') and c.threats('p'); "
              "assert c.machines('l') and c.devices('p') and 'torch' not in sys.modules")
    assert subprocess.run([sys.executable, "-c", script], timeout=300).returncode == 0


def test_an_unknown_machine_is_refused_before_torch_is_loaded():
    script = ("import sys; sys.argv = 'ep-hw evaluate digits --on spinnaker'.split(); from ep_hw.cli import main\n"
              "try: main()\nexcept SystemExit as end: print(end.code, 'torch' in sys.modules)")
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert ended.stdout.split() == ["2", "False"]
    assert "unknown machine" in ended.stderr
