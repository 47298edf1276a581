"""`--plugin`: a user's Python file is named on the command line, and so is what it registers."""

import importlib
import json
import os
import sys
from pathlib import Path

import pytest
import torch
from networks import small_network
from registries import restored

import mapping
from ep_hw.evaluation.own import belongings, bring_plugins
from ep_hw.networks.own import MODULES as KNOWN
from ep_hw.networks.own import registered
from ep_hw.networks.programs import reference_of
from ep_hw.threats import parse_threat
from ep_hw.threats.registry import ATTACKS, CORRUPTIONS
from ep_hw.threats.sources import digest, sources
from ep_hw.versions import code_of

LATER = """
import importlib

def later():
    import inner_fade
    import loose_fade.one
    return inner_fade.late + importlib.import_module("named_fade").late + loose_fade.one.late
"""
LATE = ("inner_fade", "named_fade", "loose_fade", "loose_fade.one")
IMPORTED = ("near_fade", "far_fade", "far_fade.deep", "late_fade")
FADE = '''
from ep_hw.threats import attack

@attack(norm="linf", access="black")
def fade(machine, images, labels, eps, generator):
    return (images - {share} * eps).clamp(0, 1)
'''


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a command registers is known to its test alone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)
    with restored(mapping.REGISTRY, ATTACKS, CORRUPTIONS, KNOWN):
        yield
    for name in {"fade", "own_attack"} - modules:
        sys.modules.pop(name, None)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fade.py"
    path.write_text(FADE.format(share=1))
    return path


def test_an_attack_of_ones_own_is_a_threat_in_worker_processes_too(ep_hw, file):
    code, out, _ = ep_hw("evaluate", "digits", "--alone", "--on", "reference", "--attack", "fade@0.3", "--images", 2,
                         "--jobs", 2, "--plugin", file, "--out", "run")
    assert code == 0
    assert "fade@0.3" in out
    assert str(file) in os.environ["EP_HW_PLUGINS"]


@pytest.mark.parametrize("way", ["another path", "on the path of modules", "imported"])
def test_a_file_is_the_same_however_it_is_reached(ep_hw, file, tmp_path, monkeypatch, way):
    others = []
    if way == "another path":
        (tmp_path / "sub").mkdir()
        others = ["--plugin", tmp_path / "sub" / ".." / "fade.py"]
    else:
        monkeypatch.syspath_prepend(tmp_path)
    if way == "imported":
        importlib.import_module("fade")
    code, _, err = ep_hw("machines", "--plugin", file, *others)
    assert code == 0, err
    assert "fade" in ATTACKS
    assert os.environ["EP_HW_PLUGINS"].count("fade.py") == 1


def test_two_files_of_one_name_are_refused(refused, file, tmp_path):
    other = tmp_path / "sub" / "fade.py"
    other.parent.mkdir()
    other.write_text(FADE.format(share=0.5))
    assert "of the name of another module" in refused("machines", "--plugin", file, "--plugin", other)


MODULES = '''
import torch, ep_hw

class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.readout = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Linear(256, 10)

    def forward(self, images):
        first = self.first(images).relu()
        return self.readout((first + images).flatten(1))

@ep_hw.register_module(image_shape=(1, 8, 8), classes=10, data="digits")
def residual():
    return Residual()

@ep_hw.register_module(image_shape=(1, 8, 8), classes=10)
def failing():
    raise RuntimeError("no weights")

@ep_hw.register_module(image_shape=(1, 8, 8), classes=10)
def chain():
    return torch.nn.Sequential(Residual().first, torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(256, 10))
'''


@pytest.mark.parametrize(("name", "machine", "others"), [
    ("residual", "crossbar:pcm/read", []), ("chain", "loihi", ["--data", "digits"])])
def test_a_module_of_ones_own_is_a_model(ep_hw, file, tmp_path, name, machine, others):
    file.write_text(MODULES)
    code, _, err = ep_hw("evaluate", f"plugin:{name}", "--plugin", file, "--on", machine, "--images", 4, "--jobs", 2,
                           "--chips", 1, "--out", "run", *others)
    assert code == 0, err
    rows = json.loads((tmp_path / "run/summary.json").read_text())
    assert {"reference", machine} <= {row["machine"] for row in rows}
    assert {row["model"] for row in rows} == {name}


def test_a_module_of_drawn_weights_is_the_same_each_time(file, monkeypatch):
    monkeypatch.setenv("EP_HW_PLUGINS", "")
    file.write_text(MODULES + "\n@ep_hw.register_module(image_shape=(1, 8, 8), classes=10)\n"
                    "def drawn():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n")
    bring_plugins([file])
    before = torch.random.get_rng_state()
    first, again = (reference_of(registered("plugin:drawn")).digest() for _ in range(2))
    assert first == again
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("arguments", "words"), [
    (("plugin:failing",), "plugin:failing: the module cannot be made; got RuntimeError: no weights, line "),
    (("plugin:residual", "--on", "loihi"), "Residual: not a chain of layers"),
    (("plugin:residul",), "did you mean plugin:residual?"), (("plugin:chain",), "name them with --data"),
    (("plugin:residual", "--data", "cifar10", "--data-root", "."), "the data do not fit the network in channels")])
def test_a_module_that_cannot_be_evaluated_says_why(refused, file, arguments, words):
    file.write_text(MODULES)
    assert words in refused("evaluate", *arguments, "--plugin", file)


def test_an_attack_that_cheats_ends_the_command_with_its_name(ep_hw, file):
    file.write_text(FADE.format(share=1.1))
    code, _, err = ep_hw("evaluate", "digits", "--alone", "--attack", "fade@0.3", "--images", 2, "--jobs", 1,
                         "--plugin", file, "--out", "run")
    assert code == 2
    assert "fade@0.3, fade: an attack left its ball; got linf 0.33; allowed: up to 0.3" in err


@pytest.mark.parametrize(("name", "content", "words"), [
    ("torch.py", "", "of the name of another module"), ("fade.txt", "", "no plug-in"), ("a-b.py", "", "no plug-in"),
    ("missing.py", None, "no such file"), ("fade.py", "1 / 0", "ZeroDivisionError"), ("fade.py", "(", "SyntaxError"),
    ("fade.py", FADE.replace("def fade", "def pgd_l2"), "'pgd_l2'")])
def test_what_is_no_plug_in_is_refused_in_one_line(refused, tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert words in refused("machines", "--plugin", tmp_path / name)
    assert "fade" not in sys.modules


def test_what_a_file_imports_from_beside_it_is_in_the_keys(tmp_path, monkeypatch):
    """However deep, and wherever it is imported; what nobody imports is not, nor is an installed package."""
    files = {"fade.py": FADE.format(share=1) + "\nimport numpy, near_fade\n", "near_fade.py": "import far_fade.deep\n",
             "far_fade/__init__.py": "", "far_fade/deep.py": "import late_fade\n", "late_fade.py": LATER,
             "inner_fade.py": "late = 1\n", "named_fade.py": "late = 2\n", "loose_fade/one.py": "late = 3\n",
             "unread_fade.py": "unread = 1\n"}
    monkeypatch.setenv("EP_HW_PLUGINS", "")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    bring_plugins([tmp_path / "fade.py"])
    program = mapping.compile(small_network(0).lower(), "reference")
    assert sys.modules["late_fade"].later() == 6

    def key():
        sources.cache_clear()
        digest.cache_clear()
        return code_of([program], parse_threat("fade@0.1"))["fade.py"]

    assert {path.name for path in sources(str(tmp_path / "fade.py"))} == {Path(name).name for name in files} - {
        "unread_fade.py"}
    seen = {key()}
    for name, text in files.items():
        (tmp_path / name).write_text(text + "# another line")
        assert (key() in seen) == (name == "unread_fade.py")
        seen.add(key())
    taken = belongings()
    assert dict(taken.beside) == {name: (text + "# another line").encode() for name, text in files.items()
                                  if name not in ("fade.py", "unread_fade.py")}
    for name in ("fade", *IMPORTED, *LATE):
        del sys.modules[name]
    sys.path.remove(str(tmp_path))
    for name in files:
        (tmp_path / name).unlink()
    del ATTACKS["fade"]
    taken.bring(tmp_path / "elsewhere")
    assert "fade" in ATTACKS
    assert Path(sys.modules["far_fade.deep"].__file__).is_relative_to(tmp_path / "elsewhere")
    assert sys.modules["late_fade"].later() == 6
    for name in (*IMPORTED, *LATE):
        del sys.modules[name]
