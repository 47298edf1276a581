"""Why Lava and its twin diverge: faults planted in real Lava processes, found from states alone."""

from dataclasses import replace

import numpy as np
import pytest
from networks import random_images, small_network

import mapping
import simulators
from ep_hw.diagnosis import explain
from simulators.loihi.lava import LavaMachine

FEEDBACK = """
    import simulators.loihi.arithmetic as arithmetic

    right = arithmetic.Synapses.backward

    def wrong(self, above, winners):
        flipped = arithmetic.Synapses(self.weight[..., ::-1], self.coupling, self.forward_factor, self.backward_factor)
        return right(flipped, above, winners)

    arithmetic.Synapses.backward = wrong
    """
TURN = """
    from simulators.loihi.processes.neurons import Neurons

    right = Neurons.__init__

    def wrong(self, *, name, turn, **rest):
        right(self, name=name, turn=0 if name == "layer2" else turn, **rest)

    Neurons.__init__ = wrong
    """


def explained(opener=None):
    graph = replace(small_network(3).lower(), activity=None)   # else biases would tell a worker's weights
    return explain(graph, mapping.compile(graph, "loihi"), mapping.compile(graph, "lava"), random_images(4), steps=4,
                   opener=opener)


def test_honest_processes_are_not_accused():
    explanation = explained()
    assert explanation.divergence.place is None
    assert not explanation.faults
    assert len(explanation.findings) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("code", "sentence"), [
    (FEEDBACK, "conv2 of lava: its backward weights are the program's, flipped left to right"),
    (TURN, "layer2 of lava: it updates out of turn: at steps [1, 3] of 4, not [2, 4]"),
], ids=["feedback", "turn"])
def test_a_fault_of_the_processes_is_named(in_lavas_interpreter, code, sentence):
    in_lavas_interpreter(code)
    assert explained().faults[0].sentence() == sentence


@pytest.mark.slow
def test_a_worker_that_runs_another_program_or_schedule_is_named():
    def flipped(graph):
        conv2 = graph.couplings[1]
        wrong = replace(conv2, weight=np.ascontiguousarray(conv2.weight[:, :, ::-1]))
        return replace(graph, couplings=(graph.couplings[0], wrong))

    def other_schedule(graph):
        return replace(graph, schedule="synchronous")

    for change, sentence in ((flipped, "conv2 of lava: its weights are the program's, flipped upside down"),
                             (other_schedule, "network of lava: its schedule is synchronous, not alternating")):
        def opener(program, change=change):
            on_lava = program.target.name == "lava"
            return LavaMachine(mapping.compile(change(program.graph), "lava"), batch=4) if on_lava else (
                simulators.open(program))

        assert explained(opener).faults[0].sentence() == sentence
