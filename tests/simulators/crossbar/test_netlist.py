"""Tiles as netlists: ngspice, which knows nothing of our elimination, solves them to the currents of T."""

import numpy as np
import pytest
from chips import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from nodal import sensed_currents
from spice import currents, needs_ngspice, operating_point

from mapping.errors import Refusal
from simulators.crossbar.netlist import folded, subcircuit, terminals, tile_netlist

TARGETS = ["crossbar:pcm[wire_ohm=20,bit_ohm=5,tile=18]", "crossbar:pcm/aged[tile=18]",
           "crossbar:pcm[wire_ohm=20,tile=18,terminals=opposite,arrays=separate]",
           "crossbar:pcm[wire_ohm=20,tile=18,terminals=opposite]",
           "crossbar:reram_milo[wire_ohm=5,encoding=offset,tile=20x16]",
           "crossbar:pcm[wire_ohm=3,levels=4,encoding=slices,slices=2,tile=18]"]


def seen_by(array, tile, backward):
    """(slices, planes, rows, columns) microsiemens of T, from the layer's own indices."""
    cells, (first, last), (left, right) = array.cells, array.row_cuts[tile[0]], array.column_cuts[tile[1]]
    seen = cells.backward_us if backward else cells.forward_us
    columns = [*range(left, right), *([array.column_cuts[-1][1] + tile[1]] if seen.shape[1] == 1 else [])]
    return np.stack([seen[:, :, o, first:last].double().flatten(2).numpy() for o in columns], -1)


def volts(count, seed):
    return np.random.default_rng(seed).uniform(-0.3, 0.3, count)


@needs_ngspice
@pytest.mark.parametrize("target", TARGETS)
def test_ngspice_solves_a_tile_to_the_currents_of_t_in_both_directions(graph, tmp_path, target):
    m = machine(graph, target)
    layer, pair = m.program.layers[1].name, m.chip.arrays[1]
    tile = len(pair[0].row_cuts) - 1, len(pair[0].column_cuts) - 1
    (*_, rows, columns), back = seen_by(pair[0], tile, False).shape, seen_by(pair[-1], tile, True)
    rows_v, columns_v = volts(rows, 1), volts(columns, 2)
    found = operating_point(tile_netlist(m.program, m.chip, layer, tile, rows_v, columns_v), tmp_path)
    expected = {"vf_s{}p{}_c": rows_v @ seen_by(pair[0], tile, False), "vb_s{}p{}_r": back @ columns_v}
    for source, all_us in expected.items():
        for s, p in np.ndindex(all_us.shape[:2]):
            ours = currents(found, source.format(s, p))
            assert len(ours) == len(all_us[s, p])
            assert np.abs(ours - 1e-6 * all_us[s, p]).max() < 1e-6 * 1e-6 * np.abs(all_us).max()


@needs_ngspice
@settings(max_examples=6)
@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 6), st.floats(0.01, 1000), st.floats(0.01, 1000),
       st.booleans())
def test_the_wires_of_any_plane_are_those_of_kirchhoffs_nodes(tmp_path_factory, seed, rows, columns, ohm, bit_ohm,
                                                              opposite):
    """Against the sparse system, with cells that do not conduct at all."""
    rng = np.random.default_rng(seed)
    g_us, drive = rng.uniform(0, 25, (rows, columns)) * (rng.random((rows, columns)) > 0.2), volts(rows, seed)
    lines = ["* plane", *subcircuit("plane", g_us, (ohm, bit_ohm), opposite)]
    lines += [" ".join(["x1", *(f"r{k}" for k in range(rows)), *(f"c{j}" for j in range(columns)), "plane"])]
    lines += [f"vr{k} r{k} 0 {volt!r}" for k, volt in enumerate(drive.tolist())]
    lines += [f"vc{j} c{j} 0 0" for j in range(columns)]
    found = operating_point("\n".join([*lines, ".op", ".end", ""]), tmp_path_factory.mktemp("plane"))
    expected = 1e-6 * drive @ sensed_currents(g_us, ohm, opposite, bit_ohm)
    assert np.abs(currents(found, "vc") - expected).max() < 1e-6 * 1e-6 * max(1e-3, np.abs(g_us).max())


@needs_ngspice
def test_a_plane_of_256_lines_has_as_many_terminals(tmp_path):
    """Perfect wires and a cell a row: Ohm's law, in closed form."""
    g_us, ports = np.diag(np.linspace(1, 25, 256)), terminals(256, 256)
    lines = ["* plane", *subcircuit("plane", g_us, None), *folded(["x1", *ports, "plane"])]
    lines += [f"v{port} {port} 0 {int(port[0] == 'r')}" for port in ports]
    found = operating_point("\n".join([*lines, ".op", ".end", ""]), tmp_path)
    assert np.allclose(currents(found, "vc"), 1e-6 * np.diag(g_us), rtol=1e-6)


@pytest.mark.parametrize(("layer", "tile", "drives", "words"), [
    ("conv9", (0, 0), {}, "layer: no such layer.*conv1, conv2"),
    ("conv1", (0, 7), {}, "tile: no such tile.*0,0 to 0,0"),
    ("conv1", (-1, 0), {}, "no such tile"), ("conv1", (0, 0), {"rows_v": [1.0]}, "rows_v: not a voltage.*1 values"),
    ("conv1", (0, 0), {"columns_v": [np.nan] * 4}, "columns_v: not a voltage")])
def test_what_is_not_there_is_refused(graph, layer, tile, drives, words):
    m = machine(graph, "crossbar:ideal")
    with pytest.raises(Refusal, match=words):
        tile_netlist(m.program, m.chip, layer, tile, **drives)
