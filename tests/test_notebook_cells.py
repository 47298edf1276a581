"""The cell of a notebook that registers something runs again: the new definition counts, in keys too."""

import sys
from types import ModuleType

import numpy as np
import pytest
from networks import small_network
from registries import restored

import ep_hw
import mapping
from ep_hw.data import Dataset
from ep_hw.data import registry as data
from ep_hw.networks import own
from ep_hw.threats import parse_threat
from ep_hw.threats.registry import ATTACKS, CORRUPTIONS
from ep_hw.versions import code_of
from mapping import Refusal
from mapping.program import Program
from simulators import registry as simulators
from simulators.crossbar import models

CELLS = {
    "attack": """
from ep_hw.threats import attack
@attack(norm="linf", access="black")
def cell_made(machine, images, labels, eps, generator):
    return images + {n} * 0
""",
    "attack class": """
from ep_hw.threats import attack
@attack(norm={norm!r}, access="white")
class cell_made:
    number = {n}
""",
    "corruption": """
from ep_hw.threats import register_corruption
@register_corruption((1, 2, 3, 4, {n}), random=False, version={n})
def cell_made(x, constant, rng):
    return x
""",
    "machine": """
import numpy as np
from dataclasses import dataclass
import mapping, simulators
from mapping.program import FloatProgram, Program
from mapping.targets import Target
from simulators.reference import ReferenceMachine
@dataclass(frozen=True)
class CellTarget(Target):
    pass
class CellProgram(FloatProgram):
    kind = "cell"
def cell_compile(graph, target):
    return CellProgram(target, graph)
def cell_open(program, chip_seed, device):
    return ReferenceMachine(program.graph, device)
mapping.register_machine(CellTarget("cell_made"), "number {n}", compile=cell_compile, version={n})
simulators.register_machine(CellProgram, cell_open)
""",
    "data": """
import numpy as np
from ep_hw.data import BaseDataset, register_data
class Cell(BaseDataset):
    number = {n}
    def load(self, split, data_source): ...
register_data(Cell(name="cell_made", classes={n} + 2, image_shape=(1, 8, 8)))
""",
    "module": """
import torch
from ep_hw import register_module
@register_module(image_shape=(1, 8, 8), classes={n} + 2)
def cell_made():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, {n} + 2))
""",
    "device model": """
from simulators.crossbar.devices import Ideal
from simulators.crossbar.models import register_device_model
class CellDevice(Ideal):
    number = {n}
register_device_model("cell_made", CellDevice)
"""}


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """What a test registers is known to it alone; the main module is in no file, as in a notebook."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    with restored(ATTACKS, CORRUPTIONS, mapping.REGISTRY, data.DATA_SETS, own.MODULES, Program.kinds,
                  simulators._OPENERS, models._MODELS):
        yield


def run(cell, module="__main__", n=1, norm="l2"):
    exec(compile(CELLS[cell].format(n=n, norm=norm), "<cell>", "exec"), {"__name__": module})


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_that_runs_again_counts_as_it_is_now(cell):
    run(cell, n=1)
    run(cell, n=2, norm="linf")
    run(cell, n=2, norm="linf")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "module"])
@pytest.mark.parametrize(("first", "second"), [("one", "other"), ("one", "__main__"), ("__main__", "one")])
def test_what_stands_elsewhere_is_something_else(cell, first, second):
    run(cell, first)
    with pytest.raises(Refusal):
        run(cell, second)


def test_the_new_definition_is_the_one_that_runs():
    run("corruption", n=4)
    run("corruption", n=5)
    assert CORRUPTIONS["cell_made"].constants == (1, 2, 3, 4, 5)
    run("data", n=1)
    run("data", n=5)
    assert data.data_set("cell_made").classes == 7
    run("module", n=1)
    run("module", n=3)
    assert own.registered("plugin:cell_made").spec.classes == 5
    run("machine", n=1)
    run("machine", n=2)
    assert mapping.REGISTRY["cell_made"].meaning == "number 2"
    with mapping_open() as machine:
        assert machine.relax(ep_hw.data.load_data("digits", "test").images[:2]).prediction.shape == (2,)


def mapping_open():
    return simulators.open_machine(mapping.compile(small_network(0).lower(), "cell_made"), chip_seed=0, device="cpu")


@pytest.mark.parametrize("cell", ["attack", "attack class", "corruption", "machine"])
def test_keys_tell_the_two_apart(cell):
    seen = []
    for _ in range(2):
        run(cell)
        program = mapping.compile(small_network(0).lower(), "cell_made" if cell == "machine" else "reference")
        threat = {"corruption": "cell_made@1", "machine": "clean"}.get(cell, "cell_made@0.1")
        seen.append(code_of([program], parse_threat(threat)))
    assert seen[0] != seen[1]


def test_a_data_set_of_the_same_images_may_be_registered_again():
    images, labels = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    for _ in range(2):
        data.register_data(Dataset(images, labels, name="cell_made"))
    with pytest.raises(Refusal, match="the name means another data set"):
        data.register_data(Dataset(images + 1, labels, name="cell_made"))
