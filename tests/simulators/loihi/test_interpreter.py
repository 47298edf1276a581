"""Lava's interpreter: which one it is, that it is made once and whole, what is said without one, and equal bits."""

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import mapping
from mapping.errors import Refusal
from mapping.files import parse_toml
from simulators.isolated import command
from simulators.loihi import interpreter
from simulators.loihi.interpreter import lava_python

ROOT = Path(__file__).parents[3]
UV = f"""#!/bin/sh
test "$1" = --version && exit 0
cd {{folder}}; echo "$1" >> asked; sleep 0.1
test -e offline && echo "error: no index can be reached" >&2 && exit 2
test "$1" = venv && for made; do true; done && mkdir -p "$made/bin" && ln -s {sys.executable} "$made/bin/python"
exit 0
"""
COMPILE = """
    import sys
    from dataclasses import replace
    import numpy
    import mapping
    folder, *targets = sys.argv[1:]
    assert numpy.__version__ == "1.26.4" and "torch" not in sys.modules
    images, *states = numpy.load(f"{folder}/activity.npz").values()
    graph = replace(mapping.load_program(f"{folder}/given").graph, activity=mapping.Activity(images, tuple(states)))
    for n, target in enumerate(targets):
        mapping.compile(graph, target).save(f"{folder}/made{n}")
    """
TARGETS = ("reference", "loihi", "loihi:states[state_bits=9]", "lava:float", "crossbar:pcm", "digital[weight_bits=4]")


@pytest.fixture
def without_lava(monkeypatch, tmp_path):
    """This interpreter holds no Lava, nor was one named or made before; uv is a script of ours: its folder."""
    monkeypatch.setattr(interpreter, "find_spec", lambda name: None)
    monkeypatch.delenv(interpreter.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "uv").write_text(UV.format(folder=tmp_path))
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("UV", str(tmp_path / "uv"))
    return tmp_path


def made_in(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "ep-hw").iterdir() if path.suffix != ".lock")


def test_its_packages_are_those_of_our_constraints():
    pinned = parse_toml((ROOT / "pyproject.toml").read_bytes())["tool"]["uv"]["constraint-dependencies"]
    assert set(interpreter.PACKAGES) <= {line.partition("; python_version < ")[0] for line in pinned}


def test_uv_makes_it_once_however_many_ask(without_lava):
    found = []
    asking = [threading.Thread(target=lambda: found.append(lava_python())) for _ in range(4)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    (name,) = made_in(without_lava)
    assert found == [str(without_lava / "ep-hw" / name / "bin" / "python")] * 4
    assert (without_lava / "asked").read_text().split() == ["venv", "pip"]


def test_it_is_made_anew_where_its_python_was_removed(without_lava):
    python = Path(lava_python())
    python.unlink()
    python.symlink_to(without_lava / "removed")
    assert Path(lava_python()) == python
    assert python.exists()


def test_what_uv_says_is_said_and_nothing_is_left(without_lava):
    (without_lava / "offline").touch()
    with pytest.raises(Refusal, match=r"error: no index can be reached; .* remedy: let uv reach .* loihi"):
        lava_python()
    assert not made_in(without_lava)


def test_a_uv_of_another_of_pyenvs_versions_is_found(without_lava, monkeypatch):
    """As `pip install uv` leaves it: a shim that finds uv where its own version is among those that are asked for."""
    (without_lava / "pyenv").write_text("#!/bin/sh\necho 3.12.1\n")
    (without_lava / "pyenv").chmod(0o755)
    only = 'test "$PYENV_VERSION" = 3.10:3.12.1 || exit 127\n'
    (without_lava / "uv").write_text(UV.format(folder=without_lava).replace("\n", f"\n{only}", 1))
    monkeypatch.delenv("UV")
    monkeypatch.setenv("PATH", f"{without_lava}:/usr/bin:/bin")
    interpreter._pyenv.cache_clear()
    try:
        assert lava_python().startswith(str(without_lava))
    finally:
        interpreter._pyenv.cache_clear()


def test_without_uv_it_is_refused_with_a_remedy(without_lava, monkeypatch):
    monkeypatch.setenv("UV", str(without_lava / "none"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Refusal, match=r"got Python [0-9.]+, no EP_HW_LAVA_PYTHON, no uv; .* remedy: pip install uv"):
        lava_python()
    assert interpreter.lava_version() == ""


@pytest.mark.parametrize(("named", "got"), [
    ("bare", "and lacks lava"), ("/bin/echo", "Expecting value"), ("/none", "No such file")])
def test_a_named_interpreter_without_what_it_needs_is_refused(without_lava, monkeypatch, named, got):
    (without_lava / "bare").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (without_lava / "bare").chmod(0o755)
    named = without_lava / named
    monkeypatch.setenv(interpreter.VARIABLE, str(named))
    with pytest.raises(Refusal, match=rf"{interpreter.VARIABLE}={named}.*{got}.* remedy: leave {interpreter.VARIABLE}"):
        lava_python()


def test_programs_are_compiled_to_the_same_bytes_in_lavas_interpreter(graph, tmp_path):
    """Which has numpy 1, and of this one's packages none but ours."""
    mapping.compile(graph, "reference").save(tmp_path / "given")
    np.savez(tmp_path / "activity.npz", graph.activity.images, *graph.activity.states)
    *start, code = command("mapping", python=interpreter._kept())
    code = code.partition("; from mapping")[0] + textwrap.dedent(COMPILE)
    subprocess.run([*start, code, tmp_path, *TARGETS], check=True, timeout=100)
    for n, target in enumerate(TARGETS):
        mapping.compile(graph, target).save(tmp_path / "ours" / str(n))
        folders = tmp_path / f"made{n}", tmp_path / "ours" / str(n)
        theirs, ours = (next(path.iterdir()).read_bytes() for path in folders)
        assert theirs == ours, target


def test_of_this_interpreters_packages_it_finds_ours_alone():
    *start, code = command("simulators.loihi.worker", python=interpreter._kept())
    names = ("mapping", "simulators", "lava", "torch", "ep_hw")
    code = code.removesuffix("main()")
    code += f"from importlib.util import find_spec; print(*(find_spec(name) is not None for name in {names}))"
    found = subprocess.run([*start, code], check=True, timeout=100, capture_output=True, text=True).stdout
    assert found == "True True True False False\n"
