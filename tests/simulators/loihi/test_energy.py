"""Energy and latency of Loihi from a placement and counts that are small enough to add up by hand."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from chains import random_chain
from networks import calibrated

import mapping
import simulators
from mapping.loihi.limits import limit
from mapping.loihi.placement import place
from simulators.loihi import energy
from simulators.loihi.energy import (
    DESIGNED,
    DESIGNED_TIMES,
    HALA_POINT_J,
    MEASURED,
    MEASURED_TIMES,
    PEAK,
    SCALED,
    OperationEnergies,
    OperationTimes,
    PeakTimes,
    mean_cost,
)
from simulators.loihi.events import count_events, full_activity
from simulators.loihi.twin import open_twin
from simulators.relaxation import active_layers

NOTHING = {kind: {field.name: 0.0 for field in fields(kind)} for kind in (
    OperationEnergies, OperationTimes, PeakTimes)}
FIGURES = {OperationEnergies: ("SCALED", "DESIGNED", "MEASURED"), OperationTimes: ("DESIGNED_TIMES", "MEASURED_TIMES"),
           PeakTimes: ("PEAK",)}


@pytest.fixture(params=["synchronous", "alternating"])
def program(request, random_graph):
    return mapping.compile(random_graph(3, 7, (2, 2), request.param, gain=0.5), "loihi[threshold=0.01]")


@pytest.fixture
def count(program):
    images = torch.rand(6, *program.graph.image_shape, generator=torch.Generator().manual_seed(0))
    return count_events(open_twin(program), images, torch.tensor([9, 11, 3, 6, 11, 1]))


def cost_at(monkeypatch, program, count, **rates):
    """Mean cost where only the given rates are not zero."""
    for kind, nothing in NOTHING.items():
        own = kind(**nothing | {name: value for name, value in rates.items() if name in nothing})
        for name in FIGURES[kind]:
            monkeypatch.setattr(energy, name, own)
    return mean_cost(program, count)


def test_a_feed_forward_network_pays_for_nothing_backward(monkeypatch):
    program = mapping.compile(random_chain(4, feedback="none"), "loihi")
    images = torch.rand(3, *program.graph.image_shape, generator=torch.Generator().manual_seed(0))
    count, blocks = count_events(open_twin(program), images), place(program.graph, program.target).blocks
    assert {block.part for block in blocks} == {"forward"}
    heard = count.events[:, :, :-1].sum() / 3   # by the next layer alone; the top is read out once, at the end
    assert cost_at(monkeypatch, program, count, e_msg=1.0).energy_j == pytest.approx(heard)
    operations = (count.forward.sum() + count.readout.sum()) / 3
    assert cost_at(monkeypatch, program, count, e_syn=1.0).energy_j == pytest.approx(operations)
    units = sum(block.need.neurons for block in blocks if block.layer != "readout")
    assert cost_at(monkeypatch, program, count, e_update=1.0).energy_j == pytest.approx(units)


def neurons(program, layer, part):
    return sum(block.need.neurons for block in place(program.graph, program.target).of(layer, part))


def test_energy_is_that_of_each_operation(monkeypatch, program, count):
    operations = (count.forward.sum() + count.backward.sum() + count.readout.sum()) / 6
    assert cost_at(monkeypatch, program, count, e_syn=1.0).energy_j == pytest.approx(operations)
    image, first, top = (count.events[:, :, n].sum() for n in range(3))   # each is heard by one neighbour only
    for rates in ({"e_msg": 1.0}, {"e_spike": 1.0}):
        assert cost_at(monkeypatch, program, count, **rates).energy_j == pytest.approx((image + first + top) / 6)


def test_every_neuron_is_updated_or_idle_at_every_step(monkeypatch, program, count):
    steps = (count.units[:, 1:].sum(2) > 0).sum(1)
    both = cost_at(monkeypatch, program, count, e_update=1.0, e_idle=1.0).energy_j
    total = sum(block.need.neurons for block in place(program.graph, program.target).blocks)
    assert both == pytest.approx(total * (steps + 1).mean())
    first = neurons(program, "conv1", "forward") + neurons(program, "conv2", "feedback")
    second = neurons(program, "conv2", "forward")
    turns = [(steps + 1) // 2, steps // 2] if program.graph.schedule == "alternating" else [steps, steps]
    updates = cost_at(monkeypatch, program, count, e_update=1.0).energy_j
    assert updates == pytest.approx((first * turns[0] + second * turns[1]).mean())


def work_of_cores(program, count):
    """Operations, neurons updated and neurons idle of every core, by image and step: loops over the blocks on them."""
    graph, placement = program.graph, place(program.graph, program.target)
    sums = {key: sum(block.need.synapses for block in placement.of(*key))
            for key in {(block.layer, block.part) for block in placement.blocks}}
    senders = {("conv1", "forward"): count.forward[:, :, 0], ("conv2", "forward"): count.forward[:, :, 1],
               ("conv2", "feedback"): count.backward[:, :, 2]}
    layers = {("conv1", "forward"): 0, ("conv2", "forward"): 1, ("conv2", "feedback"): 0}
    for image, steps in enumerate((count.units[:, 1:].sum(2) > 0).sum(1)):
        for t in range(steps + 1):
            found = np.zeros((3, placement.cores))
            for block in placement.blocks:
                key = block.layer, block.part
                work = senders[key][image, t] if key in senders else count.readout[image] * (t == steps)
                found[0, block.core] += work * block.need.synapses / sums[key]
                updated = t > 0 and layers.get(key) in active_layers(graph.schedule, t - 1, 2)
                found[1 if updated else 2, block.core] += block.need.neurons
            yield image, t, found


def busiest_cores(program, count, times) -> float:
    """Mean latency of equation (17)."""
    rates = np.array([[times.t_syn], [times.t_update], [times.t_idle]])
    return sum((rates * found).sum(0).max() + times.t_step for _, _, found in work_of_cores(
        program, count)) / len(count.readout)


HEARS = [("conv1", ("conv2", "forward")), ("conv2", ("conv2", "feedback"))]   # of a chain of two


def crossing(program, count):
    """(B, T + 1) bytes of messages between parts that share no core; of the tests' chains of two."""
    blocks, total = place(program.graph, program.target).blocks, 0
    for n, (sender, hearer) in enumerate(HEARS):
        own, other = ({b.core for b in blocks if (b.layer, b.part) == key} for key in ((sender, "forward"), hearer))
        total = total + (0 if own & other else 1) * count.events[:, :, n + 1]
    return total * program.state_bits / 8


def least(program, count, peak) -> float:
    """Mean of equation (18)."""
    network = crossing(program, count) * peak.t_byte / place(program.graph, program.target).chips
    return sum(max(found[0].max() * peak.t_syn, found[1].max() * peak.t_update, network[image, t], peak.t_step)
               for image, t, found in work_of_cores(program, count)) / len(count.readout)


@pytest.mark.parametrize("memory", [192 * 1024, 900])
def test_the_busiest_core_ends_a_step(monkeypatch, program, count, memory):
    monkeypatch.setattr("mapping.loihi.placement.limit", lambda n: memory if n == "memory a core" else limit(n))
    assert (place(program.graph, program.target).cores > 2) is (memory == 900)
    cost = mean_cost(program, count)
    assert cost.latency_s == pytest.approx(busiest_cores(program, count, DESIGNED_TIMES))
    assert cost.latency_range_s == pytest.approx((least(program, count, PEAK),
                                                  busiest_cores(program, count, MEASURED_TIMES)))


@pytest.mark.parametrize("memory", [192 * 1024, 900])
def test_on_loihi_2_the_slowest_of_four_ends_a_step(monkeypatch, program, count, memory):
    """Each term alone, where its rate is large; together at most their sum, at least each of them."""
    monkeypatch.setattr("mapping.loihi.placement.limit", lambda n: memory if n == "memory a core" else limit(n))
    assert crossing(program, count).any() == (memory == 900)
    lows = []
    rates = {"t_syn": 3e-9, "t_update": 2e-9, "t_byte": 1e-9, "t_step": 4e-8}
    for name, value in rates.items():
        only = PeakTimes(**NOTHING[PeakTimes] | {name: value})
        monkeypatch.setattr(energy, "PEAK", only)
        lows.append(mean_low(program, count))
        assert lows[-1] == pytest.approx(least(program, count, only))
    monkeypatch.setattr(energy, "PEAK", PeakTimes(**rates))
    together = mean_low(program, count)
    assert max(lows) <= together <= sum(lows)
    assert together == pytest.approx(least(program, count, PeakTimes(**rates)))


def mean_low(program, count) -> float:
    return float(energy._ChipWork.of(program, count).least_s(energy.PEAK).mean())


def test_the_cores_in_use_leak_as_long_as_it_takes(monkeypatch, program, count):
    cost = cost_at(monkeypatch, program, count, t_step=1.0, p_core=3.0)
    steps = (count.units[:, 1:].sum(2) > 0).sum(1)
    assert cost.latency_s == pytest.approx((steps + 1).mean())
    assert cost.energy_j == pytest.approx(3 * place(program.graph, program.target).cores * cost.latency_s)


def test_the_range_holds_the_estimate_and_comes_from_the_published_figures(program, count):
    cost = mean_cost(program, count)
    for value, (low, high) in ((cost.energy_j, cost.energy_range_j), (cost.latency_s, cost.latency_range_s)):
        assert 0 < low < value < high
    assert all(getattr(SCALED, f.name) <= getattr(DESIGNED, f.name) for f in fields(OperationEnergies))
    assert (DESIGNED.e_syn, DESIGNED.e_update, DESIGNED_TIMES.t_step) == (23.6e-12, 81e-12, 465e-9)
    assert MEASURED.e_syn > DESIGNED.e_syn
    assert "Davies et al. 2018" in cost.source


def test_hala_point_lies_above_the_scaled_figure_and_below_loihi_1(program, count):
    """2,600 W over 380e12 operations a second; its cores are faster than Loihi 1's, and memory never ends a step."""
    assert pytest.approx(6.84e-12, rel=1e-3) == HALA_POINT_J
    assert SCALED.e_syn < HALA_POINT_J < DESIGNED.e_syn < MEASURED.e_syn
    assert mean_cost(program, count).neighbour_j == pytest.approx(6.8421e-12 * count.operations.mean(), rel=1e-4)
    assert (PEAK.t_syn, PEAK.t_update) == pytest.approx((0.36985e-9, 0.5856e-9), rel=1e-3)
    assert all(getattr(PEAK, name) < getattr(DESIGNED_TIMES, name) for name in ("t_syn", "t_update", "t_step"))
    assert PEAK.t_syn / 40 > 140_544 / 16e15   # a byte of the 16e15 that all cores read a second


def test_a_machine_costs_at_most_full_activity(program, count):
    machine = simulators.open(program)
    most, measured = machine.cost(), mean_cost(program, count)
    assert measured.energy_j < most.energy_j
    assert measured.latency_s < most.latency_s
    assert np.isclose(most.operations, full_activity(program, program.graph.steps).operations[0])
    rung = simulators.open(mapping.compile(program.graph, "loihi:states")).cost()
    assert (rung.energy_j, rung.latency_s, rung.operations) == (None, None, most.operations)


def test_a_layer_that_sees_padding_alone_has_no_synapse_and_a_cost():
    """Of a chain whose second layer's only site lies on the padding."""
    chain = random_chain(3, unusual=True)
    program = mapping.compile(calibrated(chain), "loihi[weight_bits=4,state_bits=4]")
    assert {(b.layer, b.part) for b in place(chain, program.target).blocks if not b.need.synapses} == {
        ("conv2", "forward"), ("conv2", "feedback")}
    cost = energy.mean_cost(program, full_activity(program, 4))
    assert cost.energy_j > 0
    assert cost.latency_s > 0
