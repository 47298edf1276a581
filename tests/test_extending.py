"""A machine and a memory device of one's own join by the public functions, and nothing else is edited.

tests/support/halved.py and halved_machine.py are such a machine; it is here evaluated as those of the project are.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from networks import random_images, small_network
from registries import restored

import mapping
import simulators
from ep_hw import versions
from ep_hw.data.splits import Split
from ep_hw.evaluation.cells import Cell, Configuration, run_cell
from ep_hw.evaluation.rungs import ladder
from ep_hw.threats.threat import CLEAN
from mapping import Refusal
from mapping.crossbar.presets import PRESETS
from simulators.crossbar.devices import Device
from simulators.reference import ReferenceMachine

FLASH = """
[flash]
title = "a floating gate whose error grows with its conductance"
source = "a definition"
model = "in_proportion"
g_max_us = 10.0
age_domain_s = [0.0, 0.0]
causes = ["programmed"]
constants = {share = 0.02}
"""


@dataclass(frozen=True)
class InProportion(Device):
    """sigma = share g."""

    share: float = 0.0

    def programming_sigma_us(self, target_us):
        return self.share * target_us


@pytest.fixture(scope="module", autouse=True)
def halved():
    """The module of the machine; other tests know only the machines of the project."""
    with restored(mapping.REGISTRY, PRESETS):
        import halved
        import halved_machine

        simulators.register_machine(halved.HalvedProgram, halved_machine.open_halved)
        yield halved


@pytest.fixture(scope="module")
def graph():
    return small_network(4).lower()


def relaxed(program):
    with simulators.open(program) as machine:
        return machine.relax(random_images(3)).logits


def test_a_machine_of_ones_own_is_named_compiled_kept_and_opened(halved, graph, tmp_path):
    program = mapping.compile(graph, "halved[times=2]")
    program.save(tmp_path / "program")
    couplings = tuple(replace(c, weight=c.weight / 4) for c in graph.couplings)
    expected = ReferenceMachine(replace(graph, couplings=couplings)).relax(random_images(3)).logits
    for one in (program, mapping.load_program(tmp_path / "program")):
        assert one.digest() == program.digest()
        assert torch.equal(relaxed(one), expected)
    assert mapping.parse(str(program.target)) == program.target == halved.HalvedTarget("halved", times=2)
    with pytest.raises(Refusal, match="halved, times: option out of range; got 10; allowed: 0 to 9"):
        mapping.parse("halved[times=10]")


def test_it_has_a_ladder_and_a_version_of_its_own(graph):
    rungs = ladder(mapping.compile(graph, "halved"), graph)
    assert [rung.name for rung in rungs] == ["reference", "halved"]
    assert versions.code_of([rung.program for rung in rungs], CLEAN)["halved"] == 1


@pytest.mark.parametrize("changes", [{"meaning": "something else"}, {"version": 2}, {"compile": print}], ids=str)
def test_a_name_has_one_meaning(halved, changes):
    known = mapping.REGISTRY["halved"]
    definition = {"meaning": known.meaning, "version": known.version, "compile": halved.compile_halved}
    mapping.register_machine(known.target, **definition)
    with pytest.raises(Refusal, match="registered already, and otherwise; got halved"):
        mapping.register_machine(known.target, **definition | changes)
    with pytest.raises(Refusal, match="one version a kind"):
        mapping.register_machine(halved.HalvedTarget("halved:again"), **definition | {"version": 5})
    assert mapping.REGISTRY["halved"] == known


def test_a_cell_of_it_is_evaluated(graph, tmp_path):
    images = random_images(3)
    split = Split("digits", images, torch.zeros(3, dtype=torch.long), torch.arange(3))
    cell = Cell(Configuration(model="small", dataset="digits", machine="halved", program="", reference="", code={},
                              threat=CLEAN, chip_seed=None, seed=0, settings=None, votes=1), split, tmp_path)
    with simulators.open(mapping.compile(graph, "halved")) as own:
        run_cell(cell, own, simulators.open(mapping.compile(graph, "reference")))
        assert cell.read()["prediction"].to_pylist() == own.relax(images).prediction.tolist()


@pytest.mark.parametrize("name", ["", "Mine", "mine[", "mine=1", "a b", "../a"])
def test_a_name_must_be_one_that_users_can_write(halved, name):
    with pytest.raises(Refusal, match="not a machine's name"):
        mapping.register_machine(halved.HalvedTarget(name), "", compile=halved.compile_halved)


def test_a_program_has_one_machine_and_a_kind_one_class(halved):
    with pytest.raises(Refusal, match="HalvedProgram"):
        simulators.register_machine(halved.HalvedProgram, print)
    with pytest.raises(Refusal, match="'halved'; allowed: a kind that HalvedProgram has not"):
        type("Another", (halved.HalvedProgram,), {})


def test_a_memory_device_is_a_toml_entry_and_its_equations_a_class(graph):
    simulators.register_device_model("in_proportion", InProportion)
    mapping.register_devices(FLASH)
    mapping.register_devices(FLASH)
    program = mapping.compile(graph, "crossbar:flash")
    with simulators.open(program, chip_seed=3) as machine:
        target_us, g_us = torch.tensor(program.layers[1].stored.g_us), machine.chip.arrays[1][0].conductance_us
    errors = ((g_us - target_us) / target_us)[target_us > 0]
    assert errors.std().item() == pytest.approx(0.02, rel=0.2)
    assert [r.name for r in ladder(program, graph)][-2:] == ["crossbar:flash/programmed", "crossbar:flash"]
    for text, words in ((FLASH.replace("0.02", "0.03"), "the device is registered already, and otherwise"),
                        (FLASH.replace("[flash]", "[Flash]"), "preset Flash: .*name: .*small letters"),
                        ("[flash", "no readable devices")):
        with pytest.raises(Refusal, match=words):
            mapping.register_devices(text)
    with pytest.raises(Refusal, match="in_proportion"):
        simulators.register_device_model("in_proportion", Device)


@pytest.mark.parametrize(("line", "words"), [
    ('model = "magic"', "model: no such device model; got magic; allowed: ideal"),
    ("constants = {amount = 1.0}", "constants: .*'amount'.*share: float")])
def test_equations_that_nobody_knows_or_of_other_constants_are_refused(graph, line, words):
    simulators.register_device_model("in_proportion", InProportion)
    name = line.split()[0]
    kept = [row for row in FLASH.splitlines() if not row.startswith(name)]
    mapping.register_devices("\n".join([*kept, line]).replace("[flash]", f"[wrong_{name}]"))
    with pytest.raises(Refusal, match=words):
        simulators.open(mapping.compile(graph, f"crossbar:wrong_{name}"))
