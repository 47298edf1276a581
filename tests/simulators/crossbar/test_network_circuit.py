"""A whole network as a circuit: ngspice settles where continuous time does, and on the way that it takes."""


import pytest
import torch
from chips import machine
from networks import random_images, small_network
from spice import needs_ngspice, operating_point

from mapping.errors import Refusal
from simulators.crossbar import circuit as drawn
from simulators.crossbar.circuit import network_netlist
from simulators.crossbar.continuous import Circuit, settle

KINDS = {   # machines and networks of 16 pixels
    "dense": ("crossbar:pcm/aged", {"kernel": (4, 1), "paddings": (0, 0)}),
    "dense, in rows of their own": ("crossbar:pcm/aged[tile=16x16]", {"kernel": (4, 1), "paddings": (1, 0),
                                                                     "channels": (20, 4)}),
    "overlapping positions": ("crossbar:pcm/aged[tile=18,age=1y,drift_compensation=column]", {"channels": (3, 4)}),
    "strides, wires and columns scaled": (
        "crossbar:pcm[tile=16,wire_ohm=20,without=read+converters,scaling=column]", {"strides": (2, 1)}),
    "an array a direction, at opposite terminals": (
        "crossbar:pcm[tile=18,wire_ohm=20,without=read+converters,arrays=separate,terminals=opposite]",
        {"strides": (2, 1), "channels": (3, 5)})}


def opened(target, **changes):
    shape = {"image_shape": (1, 4, 4), "channels": (5, 4), "paddings": (1, 1), "pools": (1, 1), "classes": 3}
    net = small_network(3, gain=1.5, **{**shape, **changes})
    for bias in net.biases[:-1]:
        bias.add_(0.6)   # busy states
    return machine(net.lower(), target)


def states_of(found, like, read_v=0.2):
    """Voltages of the neurons as states in the shapes of `like`."""
    return [torch.tensor([found[f"v(s{n}_{j})"] / read_v for j in range(s.numel())]).view_as(s)
            for n, s in enumerate(like, 1)]


def gap(found, like):
    return max((a - b).abs().max().item() for a, b in zip(states_of(found, like), like))


@needs_ngspice
@pytest.mark.parametrize("kind", KINDS)
def test_its_operating_point_is_where_continuous_time_settles(tmp_path, kind):
    target, changes = KINDS[kind]
    m, image = opened(target, **changes), random_images(1, (1, 4, 4))
    settled = settle(m, image, tolerance=1e-6)
    assert settled.converged.all()
    assert torch.cat([s.flatten() for s in settled.states]).std() > 0.1
    found = operating_point(network_netlist(m, image[0]), tmp_path)
    assert gap(found, settled.states) < 2e-5
    logits = [found[f"v(logit_{k})"] for k in range(3)]
    assert torch.allclose(torch.tensor(logits), settled.logits[0].double().float(), atol=1e-4)


@needs_ngspice
def test_its_transient_is_the_relaxation_in_continuous_time(tmp_path):
    """Both from states of 0, stopped halfway: ngspice's own steps against exponential Euler steps."""
    m, image = opened(KINDS["dense"][0], **KINDS["dense"][1]), random_images(1, (1, 4, 4))
    half = settle(m, image, tolerance=0, longest=1.0, step=0.01)
    assert not half.converged.any()
    seconds, netlist = half.settling_s.item(), network_netlist(m, image[0])
    moving = netlist.replace("\n.op\n", f"\n.tran {seconds / 200!r} {seconds!r} uic\n")
    found, end = operating_point(moving, tmp_path), settle(m, image).states
    assert gap(found, half.states) < 5e-3
    assert gap(found, end) > 5e-2


@needs_ngspice
def test_gains_of_the_feedback_and_volts_do_what_they_do_on_the_machine(tmp_path):
    m = opened("crossbar:pcm/aged", feedback_gain=0.3, kernel=(4, 1), paddings=(0, 0))
    image = random_images(1, (1, 4, 4))
    exact = m.relax(image, steps=400).states
    found = operating_point(network_netlist(m, image[0], Circuit(read_v=0.05)), tmp_path)
    assert max((a - b).abs().max().item() for a, b in zip(states_of(found, exact, 0.05), exact)) < 2e-5


@pytest.mark.parametrize(("target", "changes", "words"), [
    ("crossbar:pcm/aged", {"pools": (2, 1)}, "max-pooling in conv1"),
    ("crossbar:pcm/aged[encoding=offset]", {}, "encoding=offset"),
    ("crossbar:pcm/read", {}, "fresh noise"), ("crossbar:pcm[without=read]", {}, "DAC and ADC")])
def test_what_is_no_such_circuit_is_refused_by_name(target, changes, words):
    m = opened(target, **changes)
    with pytest.raises(Refusal, match=words):
        network_netlist(m, random_images(1, (1, 4, 4))[0])


def test_a_circuit_that_no_one_could_solve_is_refused(monkeypatch):
    m = opened("crossbar:ideal")
    monkeypatch.setattr(drawn, "MOST_DEVICES", 2 * 9 * 16 * 5 + 4 * 20 * 9 * 16 + 2 * 64 * 3 - 1)
    with pytest.raises(Refusal, match=r"too large a circuit.*13343 at most"):
        network_netlist(m, random_images(1, (1, 4, 4))[0])
