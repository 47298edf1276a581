"""Laws of the placement: every unit once, no core or chip over a limit, counts as a walk over all synapses has them."""

from collections import Counter

import numpy as np
import pytest
from chains import FEEDBACK, random_chain
from cores import limits
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import small_network

import mapping
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.random import PAPER
from mapping.errors import Refusal
from mapping.loihi.limits import limit
from mapping.loihi.parts import parts_of
from mapping.loihi.placement import block_shape, place
from mapping.loihi.report import placement_table

SOME = settings(max_examples=25)
seeds = st.integers(0, 10**6)
ways = st.sampled_from(["shared", "unrolled"])


def walk(coupling, kind):
    """{site: (synapses, sources)} of a part, by walking over every place of the kernel."""
    c_out, c_in, k_h, k_w = coupling.weight.shape
    _, h, w = coupling.pre
    rows, columns = (n * coupling.pool for n in coupling.post[1:])
    synapses, sources = Counter(), {}
    for r, v, i, j in np.ndindex(rows, columns, k_h, k_w):
        y, x = r * coupling.stride + i - coupling.padding, v * coupling.stride + j - coupling.padding
        if not (0 <= y < h and 0 <= x < w):
            continue
        if kind == "forward":
            site, source, fan = (r // coupling.pool, v // coupling.pool), (y, x), c_in
        else:
            site, source, fan = (y, x), (r, v), c_out
        synapses[site] += fan
        sources.setdefault(site, set()).add(source)
    return synapses, sources


@SOME
@given(seeds, ways, st.integers(1, 8), st.integers(6000, 20000), st.integers(20, 400), st.integers(1, 6),
       st.integers(1500, 50000))
def test_every_unit_is_placed_once_and_nothing_is_overfull(seed, way, bits, memory, neurons, cores, synapses):
    graph = random_chain(seed, deep=False, feedback=FEEDBACK[seed % 3], unusual=True)
    target = mapping.parse(f"loihi[weights={way},weight_bits={bits}]")
    with limits(memory_a_core=memory, neurons_a_core=neurons, cores_a_chip=cores,
                synapses_a_chip=max(synapses, 8 * memory)):
        parts = {(p.layer, p.kind): p for p in parts_of(graph, bits, way)}
        if any(unit.memory_bits > 8 * memory or unit.neurons > neurons for p in parts.values() for unit in units(p)):
            with pytest.raises(Refusal, match="one unit does not fit a core"):
                place(graph, target)
            return
        placement = place(graph, target)
        assert {(b.layer, b.part) for b in placement.blocks} == set(parts)
        for key, part in parts.items():
            count = np.zeros((part.channels, len(part.rows), len(part.columns)), int)
            for b in placement.of(*key):
                count[slice(*b.channels), slice(*b.rows), slice(*b.columns)] += 1
            assert np.all(count == 1)
        check_limits(placement)


def units(part):
    """What each site of a part needs alone, for one channel."""
    return [part.need(1, (r, r + 1), (v, v + 1)) for r in range(len(part.rows)) for v in range(len(part.columns))]


def check_limits(placement):
    used, chips, stored = {}, {}, Counter()
    for b in placement.blocks:
        neurons, bits = used.get(b.core, (0, 0))
        used[b.core] = neurons + b.need.neurons, bits + b.need.memory_bits
        assert chips.setdefault(b.core, b.chip) == b.chip
        stored[b.chip] += b.need.weights
    assert all(n <= limit("neurons a core") and m <= 8 * limit("memory a core") for n, m in used.values())
    assert max(Counter(chips.values()).values()) <= limit("cores a chip")
    assert max(stored.values()) <= limit("synapses a chip")
    assert sorted(used) == list(range(placement.cores))
    assert sorted(stored) == list(range(placement.chips))


@SOME
@given(seeds, ways, st.sampled_from(FEEDBACK))
def test_counts_are_those_of_a_walk_over_all_synapses(seed, way, feedback):
    graph = random_chain(seed, feedback=feedback, unusual=True)
    couplings = {c.name: c for c in (*graph.couplings, graph.readout)}
    below_feedback = {c.name for c, gain in zip(graph.couplings, graph.gains[1:]) if gain}
    rng = np.random.default_rng(seed)
    for part in parts_of(graph, 8, way):
        coupling = couplings[part.layer]
        synapses, sources = walk(coupling, part.kind)
        (a, b), (c, d) = (sorted(rng.choice(n + 1, 2, replace=False)) for n in (len(part.rows), len(part.columns)))
        need, sites = part.need(2, (a, b), (c, d)), [(r, v) for r in range(a, b) for v in range(c, d)]
        fan = coupling.weight.shape[1 if part.kind == "forward" else 0]
        assert need.synapses == 2 * sum(synapses[s] for s in sites)
        assert need.weights == (need.synapses if way == "unrolled" else 2 * fan * coupling.weight[0, 0].size)
        heard = 2 * len(sites) if part.kind == "forward" and part.layer in below_feedback else 0
        assert need.axons == fan * len(set().union(*(sources.get(s, set()) for s in sites))) + heard
        window = coupling.pool**2 + (coupling.pool > 1)
        assert need.neurons == 2 * len(sites) * (window if part.kind == "forward" else 1)
        assert need.memory_bits == 8 * (need.weights + 6 * need.neurons + 4 * need.axons)


@SOME
@given(seeds, ways, st.integers(6000, 20000))
def test_no_other_block_shape_takes_fewer_cores(seed, way, memory):
    with limits(memory_a_core=memory):
        for part in parts_of(random_chain(seed, unusual=True), 8, way):
            extents = part.channels, len(part.rows), len(part.columns)
            chosen = cores_of(extents, block_shape(part))
            for shape in np.ndindex(*extents):
                shape = tuple(n + 1 for n in shape)
                assert chosen <= cores_of(extents, shape) or not fits_anywhere(part, shape, memory)


def cores_of(extents, shape):
    return int(np.prod([-(-n // step) for n, step in zip(extents, shape)]))


def fits_anywhere(part, shape, memory):
    """Whether a core holds the most weights, axons and neurons of blocks of this shape, wherever they lie."""
    c, h, w = shape
    needs = [part.need(c, (r, r + h), (v, v + w)) for r in range(len(part.rows) - h + 1)
             for v in range(len(part.columns) - w + 1)]
    weights, axons, neurons = (max(getattr(n, name) for n in needs) for name in ("weights", "axons", "neurons"))
    return neurons <= limit("neurons a core") and weights + 4 * axons + 6 * neurons <= memory


def test_the_paper_network_fits_one_chip_only_with_shared_weights():
    graph = EPNetwork.initialise(PAPER, 0).lower()
    shared, unrolled = (place(graph, mapping.parse(f"loihi[weights={way}]")) for way in ("shared", "unrolled"))
    check_limits(shared)
    check_limits(unrolled)
    assert shared.chips == 1
    assert unrolled.chips > 10
    forward = [b.need for b in shared.blocks if b.part == "forward" and b.layer != "readout"]
    assert sum(n.neurons for n in forward) == 231_424 + 57_856   # units before and after pooling
    with pytest.raises(Refusal, match=r"layer conv2.*more chips.*remedy: .*weights=shared"):
        place(graph, mapping.parse("loihi[weights=unrolled,chips=2]"))


def test_a_unit_larger_than_a_core_is_refused_by_layer():
    graph = small_network().lower()
    refused = pytest.raises(Refusal, match=r"layer conv1, forward: one unit does not fit a core; got \d+ bytes.*remedy")
    with limits(memory_a_core=100), refused:
        mapping.compile(graph, "loihi")


def test_more_chips_than_allowed_are_refused_and_as_many_are_not():
    graph = small_network().lower()
    with limits(memory_a_core=1000, cores_a_chip=1):
        chips = place(graph, mapping.parse("loihi")).chips
        assert chips > 2
        mapping.compile(graph, f"loihi[chips={chips}]")
        with pytest.raises(Refusal, match="takes more chips"):
            mapping.compile(graph, f"loihi[chips={chips - 1}]")


def test_a_chip_with_cores_to_spare_is_full_when_it_stores_enough_synapses():
    graph, target = small_network().lower(), mapping.parse("loihi")
    with limits(memory_a_core=1000):
        blocks = place(graph, target).blocks
        most = max(b.need.weights for b in blocks)
        with limits(synapses_a_chip=most):
            placement = place(graph, target)
            check_limits(placement)
    assert sum(b.need.weights for b in blocks) / most <= placement.chips <= len(blocks)
    assert placement.chips > 1 == blocks[-1].chip + 1


def test_the_table_adds_up_and_says_how_many_cores():
    program = mapping.compile(small_network().lower(), "loihi")
    table, placement = placement_table(program), place(program.graph, program.target)
    rows = [dict(zip(table.columns, row)) for row in table.rows]
    assert [(r["layer"], r["part"]) for r in rows] == [("conv1", "forward"), ("conv2", "forward"),
                                                       ("conv2", "feedback"), ("readout", "forward")]
    assert sum(r["weights"] for r in rows) == sum(b.need.weights for b in placement.blocks)
    assert table.notes[0].startswith(f"Verdict: {placement.cores} cores on 1 chip(s)")
    assert "unrolled" in table.notes[1]
    assert placement.cores == 1
    assert table.notes[2].startswith(f"Most axons into a core: {sum(r['axons'] for r in rows)}.")
    assert program.tables()[1] == table


@SOME
@given(seeds)
def test_what_feeds_nothing_back_has_no_part_for_it(seed):
    for feedback in FEEDBACK:
        graph = random_chain(seed, feedback=feedback, unusual=True)
        fed_back = {part.layer for part in parts_of(graph, 8, "shared") if part.kind == "feedback"}
        assert fed_back == {c.name for c in graph.couplings[1:] if c.feedback_gain}


def test_reports_of_a_feed_forward_network_know_of_no_feedback():
    program = mapping.compile(random_chain(4, feedback="none"), "loihi[weight_bits=4]")
    text = " ".join(str(table) for table in program.tables())
    assert "feedback" not in text
    assert "nudge" not in text.lower()


def test_a_chip_of_full_cores_is_a_full_chip():
    assert limit("cores a chip") * limit("neurons a core") == limit("neurons a chip")
