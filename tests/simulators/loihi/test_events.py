"""Events and synaptic operations against loops over an explicit connectivity, and the laws that they obey."""

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from chains import FEEDBACK, random_activity, random_chain
from hypothesis import given, settings
from hypothesis import strategies as st

import mapping
import simulators
from mapping.errors import Refusal
from simulators.loihi.events import EventCount, backward_fanout, count_events, forward_fanout, full_activity
from simulators.loihi.twin import open_twin
from simulators.relaxation import active_layers

SCHEDULES = ("synchronous", "alternating")
STEPS = 7


def images_for(graph, count=3, seed=0):
    return torch.rand((count, *graph.image_shape), generator=torch.Generator().manual_seed(seed))


def covered(coupling) -> tuple[int, int]:
    return tuple(n * coupling.pool for n in coupling.post[1:])


def connectivity(coupling) -> np.ndarray:
    """(units above before pooling, units below) bool: which synapses are built, place by place of the kernel."""
    (k_h, k_w), (h, w) = coupling.weight.shape[2:], coupling.pre[1:]
    synapses = np.zeros((*coupling.unpooled, *coupling.pre), bool)
    rows, columns = covered(coupling)
    for y, x, dy, dx in product(range(rows), range(columns), range(k_h), range(k_w)):
        below = y * coupling.stride + dy - coupling.padding, x * coupling.stride + dx - coupling.padding
        if 0 <= below[0] < h and 0 <= below[1] < w:
            synapses[:, y, x, :, below[0], below[1]] = True
    return synapses.reshape(np.prod(coupling.unpooled), np.prod(coupling.pre))


def pooled_places(drive: np.ndarray, coupling) -> np.ndarray:
    """(C, H, W) index, among all units before pooling, of the first largest of each window, by loops."""
    c, h, w = coupling.post
    places, side = np.zeros((c, h, w), int), coupling.pool
    for channel, y, x in product(range(c), range(h), range(w)):
        window = drive[channel, y * side:(y + 1) * side, x * side:(x + 1) * side]
        dy, dx = divmod(int(window.argmax()), side)
        places[channel, y, x] = np.ravel_multi_index((channel, y * side + dy, x * side + dx), coupling.unpooled)
    return places


def winning_places(machine, sent) -> list[np.ndarray | None]:
    """`pooled_places` of every layer but the first, from what the layers below last sent."""
    couplings, projections = machine.graph.couplings, machine.substrate.projections
    drives = [F.conv2d(torch.tensor(s)[None].float(), projection.weight, None, c.stride, c.padding)[0].numpy()
              for s, projection, c in zip(sent, projections[1:], couplings[1:])]
    return [None, *map(pooled_places, drives, couplings[1:])]


def counted_by_loops(machine, image):
    """(events, forward, feedback), each (T + 1, L + 1), and readout (T,) of one image in T steps, unit by unit."""
    program, graph, trace = machine.program, machine.graph, []
    machine.relax(image, STEPS, trace=lambda t, states: trace.append([s[0].numpy() for s in states]))
    synapses, delta_threshold = [connectivity(c) for c in graph.couplings], program.delta_threshold
    events, forward, feedback = (np.zeros((len(trace) + 1, len(graph.populations) + 1), int) for _ in range(3))
    for pixel in np.flatnonzero(machine.substrate.encode(image)[0].numpy()):
        events[0, 0] += 1
        forward[0, 0] += synapses[0][:, pixel].sum()
    sent, places = [np.zeros(p.shape) for p in graph.populations], [None] * len(synapses)
    for t, states in enumerate(trace, 1):
        before, old = [s.copy() for s in sent], places
        active = active_layers(graph.schedule, t - 1, len(sent))
        for n in active:
            for i, state in np.ndenumerate(np.round(states[n] / program.units[n])):
                if delta_threshold is None or abs(state - sent[n][i]) > delta_threshold:
                    sent[n][i] = state
        places = winning_places(machine, sent)
        for n, layer in enumerate(sent):
            for unit, (i, value) in enumerate(np.ndenumerate(layer)):
                is_event = n in active and value != (0 if delta_threshold is None else before[n][i])
                events[t, n + 1] += is_event
                if n + 1 < len(sent):
                    forward[t, n + 1] += is_event * synapses[n + 1][:, unit].sum()
                if graph.gains[n]:
                    reached = synapses[n].sum(1)
                    moved = delta_threshold is not None and before[n][i] != 0 and places[n][i] != old[n][i]
                    withdrawn = reached[old[n][i]] if moved else 0
                    resent = value != 0 if moved else is_event
                    feedback[t, n + 1] += withdrawn + resent * reached[places[n][i]]
    return events, forward, feedback, [np.count_nonzero(states[-1]) * graph.classes for states in trace]


@settings(max_examples=16)
@given(seed=st.integers(0, 10**6), feedback=st.sampled_from(FEEDBACK), schedule=st.sampled_from(SCHEDULES),
       threshold=st.sampled_from([None, 0.0, 0.02, 0.2]))
def test_counts_are_those_of_loops_over_units(seed, feedback, schedule, threshold):
    graph = random_chain(seed, schedule=schedule, feedback=feedback, unusual=True)
    name = "loihi[weight_bits=5]" if threshold is None else f"loihi[weight_bits=5,threshold={threshold}]"
    program = mapping.compile(replace(graph, activity=random_activity(graph, seed)), name)
    machine, images = open_twin(program), images_for(graph, seed=seed)
    steps = torch.tensor([STEPS, 3, STEPS]).clamp(max=STEPS if graph.has_feedback else graph.period)
    count = count_events(machine, images, steps)
    for b, last in enumerate(steps):
        *expected, readout = counted_by_loops(machine, images[b:b + 1])
        assert count.readout[b] == readout[last - 1]
        for ours, theirs in zip((count.events[b], count.forward[b], count.backward[b]), expected):
            theirs[last + 1:] = 0
            assert np.array_equal(ours, theirs)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6))
def test_fanouts_are_the_sums_of_the_connectivity(seed):
    for coupling in random_chain(seed, unusual=True).couplings:
        synapses, shape = connectivity(coupling), coupling.pre
        assert np.array_equal(synapses.sum(0).reshape(shape), np.broadcast_to(forward_fanout(coupling), shape))
        rows, columns = covered(coupling)
        above = synapses.sum(1).reshape(coupling.unpooled)[:, :rows, :columns]
        assert np.array_equal(above, np.broadcast_to(backward_fanout(coupling)[:rows, :columns], above.shape))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_relaxation_causes_more_than_full_activity(random_graph, schedule):
    graph = random_graph(1, 7, (2, 2), schedule)
    machine = open_twin(mapping.compile(graph, "loihi"))
    most = full_activity(machine.program, 20)
    count = count_events(machine, images_for(graph), torch.full((3,), 20))
    assert np.array_equal(count.units, np.broadcast_to(most.units, count.units.shape))
    for name in ("events", "forward", "backward"):
        assert (getattr(count, name) <= getattr(most, name)).all()
    assert (count.operations <= most.operations).all()
    assert (most.sparsity == 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_events_fall_as_the_threshold_rises_and_zero_sends_every_change(random_graph, schedule):
    graph = random_graph(5, 8, (2, 1), schedule, gain=0.3)
    images = images_for(graph, 10)
    dense, *rest = (count_events(open_twin(mapping.compile(graph, name)), images)
                    for name in ("loihi", *(f"loihi[threshold={t}]" for t in (0, 0.01, 0.05, 0.2))))
    totals = [count.events[:, :, 1:].sum() for count in rest]
    assert all(more > fewer for more, fewer in pairwise(totals))
    assert np.array_equal(dense.units, rest[0].units), "at threshold 0 the trajectory is that of whole states"
    assert np.array_equal(dense.readout, rest[0].readout)


@pytest.mark.parametrize("threshold", ["", "[threshold=0.01]"])
def test_a_feed_forward_network_sends_each_layer_once_and_nothing_backward(threshold):
    graph = random_chain(4, feedback="none")
    machine = open_twin(mapping.compile(graph, f"loihi{threshold}"))
    count, most = count_events(machine, images_for(graph)), full_activity(machine.program, machine.steps)
    assert not count.backward.any()
    assert not most.backward.any()
    sizes = [int(np.prod(shape)) for shape in (graph.image_shape, *(p.shape for p in graph.populations))]
    assert np.array_equal(count.units, np.broadcast_to(np.diag(sizes), count.units.shape))


def test_batches_join_to_the_whole(random_graph):
    graph = random_graph(2, 7, (2, 2), gain=0.3)
    machine, images = open_twin(mapping.compile(graph, "loihi[threshold=0.01]")), images_for(graph, 7)
    whole, parts = count_events(machine, images), [count_events(machine, part) for part in images.split(3)]
    joined = EventCount.join(parts)
    for name in ("units", "events", "forward", "backward", "readout", "operations"):
        assert np.array_equal(getattr(whole, name), getattr(joined, name))


def test_lava_sends_the_events_of_its_twin(random_graph):
    graph = random_graph(3, 6, (2, 1), gain=0.5)
    images = images_for(graph, 4)
    with simulators.open(mapping.compile(graph, "lava[threshold=0.02]")) as lava:
        ours, theirs = count_events(lava, images), count_events(lava.gradient_model, images)
    assert ours.events[:, :, 1:].sum() > 0
    for name in ("units", "events", "forward", "backward", "readout"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_counts_what_the_cpu_counts(random_graph):
    graph = random_graph(3, 7, (2, 1), gain=0.5)
    program, images = mapping.compile(graph, "loihi[threshold=0.01]"), images_for(graph)
    here, there = (count_events(open_twin(program, device), images) for device in ("cpu", "cuda"))
    assert np.array_equal(here.operations, there.operations)


@pytest.mark.parametrize("name", ["reference", "loihi:weights", "loihi:states"])
def test_machines_that_send_no_events_are_refused(random_graph, name):
    graph = random_graph(0)
    with pytest.raises(Refusal, match="sends no events"):
        count_events(simulators.open(mapping.compile(graph, name)), images_for(graph))
