"""A planted fault for rungs that stand on no other ladder: rounded states, Lava in floats, changes held back, wires."""

from dataclasses import replace

import numpy as np
import pytest
from networks import random_images

import mapping
import simulators
from ep_hw.diagnosis import explain
from ep_hw.evaluation.rungs import ladder
from simulators.reference import ReferenceMachine


def flipped(graph):
    """The network with the kernels of its second layer flipped left to right."""
    first, second = graph.couplings
    return replace(graph, couplings=(first, replace(second, weight=np.ascontiguousarray(second.weight[..., ::-1]))))


def explained(graph, target, opener):
    return explain(graph, mapping.compile(graph, "reference"), mapping.compile(graph, target), random_images(6),
                   steps=6, opener=opener)


def test_a_flipped_kernel_under_rounded_states_is_named(graph):
    def opener(program):
        wrong = program.target.name == "loihi:states"
        return simulators.open(replace(program, graph=flipped(graph)) if wrong else program)

    explanation = explained(graph, "loihi:states", opener)
    assert "flipped left to right (in conv2, where it runs" in explanation.faults[0].sentence()


def test_a_flipped_kernel_where_integer_weights_run_is_named(graph):
    def opener(program):
        if program.target.name == "loihi:weights":
            first, second = program.layers
            wrong = replace(second, weight=np.ascontiguousarray(second.weight[..., ::-1]))
            program = replace(program, layers=(first, wrong))
        return simulators.open(program)

    explanation = explained(graph, "loihi:weights", opener)
    assert "flipped left to right (in conv2, where it runs" in explanation.faults[0].sentence()


def test_a_flipped_kernel_in_floats_on_lava_is_named(graph):
    def opener(program):
        return ReferenceMachine(flipped(graph)) if program.target.name == "lava:float" else simulators.open(program)

    explanation = explained(graph, "lava:float", opener)
    fault = explanation.faults[0]
    assert fault.sentence() == "conv2 of lava:float: its weights are the program's, flipped left to right"


def test_a_population_that_holds_back_too_much_is_named(graph):
    def opener(program):
        if getattr(program.target, "threshold", None):
            program = replace(program, target=replace(program.target, threshold=0.3))
        return simulators.open(program)

    explanation = explained(graph, "loihi[threshold=0.05]", opener)
    assert "change held back" in explanation.faults[0].sentence()
    assert explanation.faults[0].rung == "loihi[threshold=0.05]"


def test_dead_neurons_that_answer_are_named(graph):
    def opener(program):
        machine = simulators.open(program)
        if program.target.name == "loihi":
            machine.substrate.alive = []
        return machine

    explanation = explained(graph, "loihi[dead=0.3]", opener)
    assert "its dead units answer" in explanation.faults[0].sentence()


def test_wires_that_add_current_are_named(graph):
    """No resistance makes a weight larger: what is sensed behind these wires is three times what there is."""
    def opener(program):
        machine = simulators.open(program)
        if "/wires" in program.target.name:
            for projection in machine.substrate.projections:
                projection.forward_array.forward_weight.mul_(3)
        return machine

    explanation = explained(graph, "crossbar:generic/wires", opener)
    assert "its wires make weights" in explanation.faults[0].sentence()


@pytest.mark.parametrize("machine", ["loihi", "lava", "crossbar:pcm[age=1d]", "reference[steps=7]", "digital"])
def test_a_label_is_that_of_the_machine_itself_and_of_no_rung_on_the_way(graph, machine):
    program = mapping.compile(graph, f"mine={machine}")
    assert [rung.name for rung in ladder(program, graph)] == [
        "mine" if rung.name == machine else rung.name for rung in ladder(mapping.compile(graph, machine), graph)]
