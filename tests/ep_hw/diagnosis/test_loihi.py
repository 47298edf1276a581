"""Why integer machines diverge: an honest rung is never accused, a planted fault is named with its layer."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from networks import random_images, small_network

import ep_hw
import mapping
import simulators
from ep_hw.data import load_data
from ep_hw.diagnosis import explain
from ep_hw.diagnosis.divergence import compare
from ep_hw.diagnosis.transformations import BIAS_FAULTS, SCALES, WEIGHT_FAULTS
from ep_hw.diagnosis.variants import model_of


@pytest.fixture(scope="module")
def images():
    return random_images(6)


def with_layer(program, n, **changes):
    """The program with fields of one layer replaced by what functions make of them."""
    layers = list(program.layers)
    layers[n] = replace(layers[n], **{key: owned(change(getattr(layers[n], key))) for key, change in changes.items()})
    return replace(program, layers=tuple(layers))


def owned(value):
    """An array of its own in place of a view: torch takes no negative strides."""
    return np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value


def explained(graph, images, program, opener=None, first="reference"):
    """The explanation of a machine against the reference (or another)."""
    return explain(graph, mapping.compile(graph, first), program, images, steps=6, opener=opener)


def in_place_of_lava(other):
    """Opens every machine in this process; the model of a program takes the place of Lava's processes."""
    return lambda program: model_of(other) if program.target.name == "lava" else simulators.open(program)


HONEST = ("loihi:weights", "loihi:states", "loihi", "loihi[weight_bits=1]", "loihi[weight_bits=3]",
          "loihi[state_bits=5]", "loihi[threshold=0.1]", "loihi[threshold=0]", "loihi[steps=9]",
          "loihi[dead=0.3,threshold=0.1]", "loihi[dead=0.3,lost_core=0]")


@pytest.mark.parametrize("target", HONEST)
@pytest.mark.parametrize("schedule", ["alternating", "synchronous"])
def test_an_honest_machine_is_not_accused(graph, images, target, schedule):
    graph = replace(graph, schedule=schedule)
    explanation = explained(graph, images, mapping.compile(graph, target))
    assert not explanation.faults
    assert explanation.findings
    assert "FAULT" not in explanation.sentence()


UNITS = {"weak": {"feedback_gain": 0.3, "slope": 0.7, "ceilings": (2.0, None)},
         "forward": {"feedback_gain": 0.0, "slope": 1.0, "ceilings": (None, None)}}   # whose states are not in 0 .. 1


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize("target", ["loihi", "loihi:states", "loihi[threshold=0.1]", "loihi[weight_bits=2]"])
def test_an_honest_machine_is_not_accused_in_other_units(images, kind, target):
    graph = small_network(3, **UNITS[kind]).lower()
    explanation = explained(graph, images, mapping.compile(graph, target))
    assert not explanation.faults
    assert explanation.findings


@pytest.mark.parametrize("kind", UNITS)
@pytest.mark.parametrize(("changes", "sentence"), [
    ({"weight": lambda w: w[..., ::-1]}, "its weights are the checkpoint's, flipped left to right"),
    ({"bias": lambda b: 0 * b}, "its biases are the checkpoint's, lost (all zero)"),
    ({"shift": lambda k: k - 1}, "its shift to the state is off by -1")])
def test_a_fault_is_named_in_other_units(images, kind, changes, sentence):
    graph = small_network(3, **UNITS[kind]).lower()
    program = mapping.compile(graph, "lava")
    faulty = with_layer(program, 1, **changes)
    assert sentence in explained(graph, images, faulty, in_place_of_lava(faulty)).faults[0].sentence()
    elsewhere = explained(graph, images, program, in_place_of_lava(faulty)).faults[0].sentence()
    assert elsewhere.startswith("conv2 of lava: ")
    assert "no known fault" not in elsewhere


def test_a_wrong_gain_or_ceiling_is_named(images):
    graph = small_network(3, **UNITS["weak"]).lower()
    faulty = with_layer(mapping.compile(graph, "loihi"), 0, backward_shift=lambda k: k + 1)
    assert "its shift of the feedback is off by +1" in explained(graph, images, faulty).faults[0].sentence()
    for other in ({"feedback_gain": 0.5}, {"ceilings": (2.0, 1.0)}):
        program = mapping.compile(small_network(3, **{**UNITS["weak"], **other}).lower(), "loihi:states")
        assert "compiled from another network" in explained(graph, images, program).faults[0].fault


def test_an_honest_machine_without_calibration_images_is_not_accused(random_graph):
    graph = random_graph(1)
    images = torch.rand((5, *graph.image_shape), generator=torch.Generator().manual_seed(0))
    assert not explained(graph, images, mapping.compile(graph, "loihi")).faults


def test_the_digits_model_is_not_accused():
    explanation = explained(ep_hw.load("digits").lower(), load_data("digits", "test").images[:12],
                 mapping.compile(ep_hw.load("digits").lower(), "loihi"))
    assert not explanation.faults
    assert "The largest part of the gap in layer1 is 8-bit weights" in explanation.sentence()
    assert "diverge at time step 1 in layer1" in explanation.sentence()


PLANTED = {
    "flipped kernels": (1, {"weight": lambda w: w[..., ::-1]},
                        "conv2 of loihi:weights: its weights are the checkpoint's, flipped left to right"),
    "one flipped kernel": (1, {"weight": lambda w: np.concatenate([w[:2], w[2:3, :, ::-1], w[3:]])},
                           "weights of output channel 2 are the checkpoint's, flipped upside down"),
    "an exponent": (0, {"exponent": lambda q: q + 1}, "conv1 of loihi:weights: its weights are the checkpoint's, "
                    "times 0.5 (an exponent off by 1)"),
    "swapped columns": (1, {"weight": lambda w: w[[0, 4, 2, 3, 1, 5]]}, "output channels 1 and 4 of its weights are"),
    "a stuck channel": (1, {"weight": lambda w: np.where(np.arange(6)[:, None, None, None] == 5, 77, w)},
                        "conv2 of loihi:weights: its weights of output channel 5 are stuck at 77"),
    "a shift": (1, {"shift": lambda k: k - 1}, "conv2 of loihi: its shift to the state is off by -1"),
    "a forward shift": (0, {"forward_shift": lambda k: k + 2},
                        "conv1 of loihi: its shift of the forward drive is off by +2"),
    "a lost bias": (0, {"bias": lambda b: 0 * b}, "conv1 of loihi: its biases are the checkpoint's, lost (all zero)"),
    "a doubled bias": (1, {"bias": lambda b: 2 * b}, "conv2 of loihi: its biases are the checkpoint's, times 2"),
    "a bias's scale": (1, {"bias": lambda b: b >> 3}, "conv2 of loihi: its biases are the checkpoint's, times 0.125"),
}


@pytest.fixture(scope="module")
def biased(graph):
    """A network with large biases, whose loss shows at once."""
    bias = [np.float32(np.linspace(-0.4, 0.7, len(c.bias))) for c in graph.couplings]
    return replace(graph, couplings=tuple(replace(c, bias=b) for c, b in zip(graph.couplings, bias)))


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_of_the_program_is_named(biased, images, name):
    layer, change, sentence = PLANTED[name]
    explanation = explained(biased, images, with_layer(mapping.compile(biased, "loihi"), layer, **change))
    assert sentence in explanation.faults[0].sentence()
    assert explanation.sentence().startswith(f"FAULT: {explanation.faults[0].sentence()}")


def test_a_swapped_schedule_is_named(graph, images):
    other = replace(graph, schedule="synchronous")
    explanation = explained(graph, images, mapping.compile(other, "loihi"))
    assert explanation.faults[0].sentence() == ("network of loihi:weights: its schedule is synchronous, "
                                          "the network's is alternating")


def test_weights_of_another_layer_are_named():
    graph = small_network(3, image_shape=(4, 8, 8), channels=(4, 4), mean=(0.3,) * 4, scale=(1.1,) * 4).lower()
    program = mapping.compile(graph, "loihi:weights")
    swapped = with_layer(program, 0, weight=lambda _: program.layers[1].weight,
                         exponent=lambda _: program.layers[1].exponent)
    explanation = explained(graph, random_images(4, (4, 8, 8)), swapped)
    assert explanation.faults[0].sentence() == "conv1 of loihi:weights: its weights are those of conv2"


def test_another_networks_program_is_named(graph, images):
    explanation = explained(graph, images, mapping.compile(small_network(4).lower(), "loihi:weights"))
    assert "compiled from another network" in explanation.faults[0].fault


def test_a_machine_that_computes_something_else_is_named(biased, images):
    """The program is right and the twin runs another one: only states can tell."""
    def opener(program):
        faulty = with_layer(program, 1, bias=lambda b: 0 * b) if program.target.name == "loihi" else program
        return simulators.open(faulty)

    explanation = explained(biased, images, mapping.compile(biased, "loihi"), opener)
    assert "its biases are the program's, lost (all zero) (in conv2, where it runs" in explanation.faults[0].sentence()


def planted(program, layer: int, field: str, fault: str, in_program: bool):
    """A program with a known fault; weights of a wrong scale have a wrong exponent, as integers cannot be scaled."""
    transform = WEIGHT_FAULTS[fault]
    if in_program and field == "weight" and fault in SCALES:
        power = int(np.log2(transform(1.0)))
        return with_layer(program, layer, exponent=lambda q: q - power)
    return with_layer(program, layer, **{field: transform})


@settings(max_examples=10, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 99), layer=st.integers(0, 1), schedule=st.sampled_from(["alternating", "synchronous"]),
       fault=st.sampled_from([("weight", f) for f in WEIGHT_FAULTS] + [("bias", f) for f in BIAS_FAULTS]),
       in_program=st.booleans())
def test_any_fault_in_any_layer_of_any_network_is_named(random_graph, seed, layer, schedule, fault, in_program):
    """Planted in the program, or in what takes the place of its processes: there it must change a state to be seen."""
    graph = random_graph(seed, schedule=schedule)
    images = torch.rand((4, *graph.image_shape), generator=torch.Generator().manual_seed(seed))
    program = mapping.compile(graph, "lava")
    field, name = fault
    faulty = planted(program, layer, field, name, in_program)
    assume(faulty.digest() != program.digest())   # inputs and outputs of a layer that is not square, for one
    explanation = explained(graph, images, faulty if in_program else program, in_place_of_lava(faulty))
    if not in_program and not explanation.faults:
        assert compare(simulators.open(mapping.compile(graph, "loihi")), model_of(faulty), images, 20).place is None
        return
    where, what = explanation.faults[0].sentence().split(": ", 1)
    assert where.startswith(f"conv{layer + 1} of ")
    assert ("weights" if field == "weight" else "biases") in what
    if not what.endswith(name):   # another fault may do the very same to these images: states at their rails, for one
        assert not in_program
        named = max((f for f in (WEIGHT_FAULTS if field == "weight" else BIAS_FAULTS) if what.endswith(f)), key=len)
        same = planted(program, layer, field, named, in_program)
        assert compare(model_of(same), model_of(faulty), images, 20).place is None
