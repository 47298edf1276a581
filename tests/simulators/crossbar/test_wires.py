"""Laws of wires: Kirchhoff's nodes, reciprocity, power, and the array that sees its cells through them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nodal import node_voltages, sensed_currents

from mapping.crossbar.program import cut
from mapping.errors import Refusal
from simulators.crossbar.wires import through_wires, transfer

SOME = settings(max_examples=12)


def cells(seed, *shape):
    """Conductances with a fifth of the cells off."""
    generator = torch.Generator().manual_seed(seed)
    g_us = 25 * torch.rand(*shape, generator=generator, dtype=torch.float64)
    return g_us * (torch.rand(*shape, generator=generator) > 0.2)


def relative(seen, expected):
    return (abs(seen - expected).max() / abs(expected).max()).item()


@pytest.mark.parametrize("wire_ohm", [0.1, 1.0, 3.0])
@pytest.mark.parametrize("shape", [(64, 64), (24, 60), (60, 24), (1, 9), (9, 1), (1, 1)])
def test_transfer_equals_the_nodal_oracle(shape, wire_ohm):
    g_us = cells(1, *shape)
    assert relative(transfer(g_us, wire_ohm).numpy(), sensed_currents(g_us.numpy(), wire_ohm)) < 1e-9


@SOME
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 100), st.floats(0.01, 100))
def test_any_small_tile_equals_the_nodal_oracle(seed, rows, columns, wire_ohm, bit_ohm):
    """With wires alike, and with bit lines of their own."""
    g_us = cells(seed, rows, columns) + 1e-3
    assert relative(transfer(g_us, wire_ohm).numpy(), sensed_currents(g_us.numpy(), wire_ohm)) < 1e-9
    found = transfer(g_us, wire_ohm, bit_ohm).numpy()
    assert relative(found, sensed_currents(g_us.numpy(), wire_ohm, bit_ohm=bit_ohm)) < 1e-9
    exchanged = transfer(g_us.mT.flip(-1, -2), bit_ohm, wire_ohm).flip(-1, -2).mT   # reciprocity
    assert relative(found, exchanged.numpy()) < 1e-9


def test_a_line_of_many_cells_pays_for_its_own_wires_alone():
    """One row: its bit lines have one segment each, in series with their cell."""
    g_us = torch.full((1, 6), 20.0, dtype=torch.float64)
    alone = transfer(g_us, 1e-9, 50.0)
    assert relative(alone, g_us / (1 + 20e-6 * 50)) < 1e-6


def test_tiles_of_a_batch_do_not_see_each_other():
    g_us = cells(2, 2, 3, 7, 5)
    together = transfer(g_us, 1.0)
    for i, j in np.ndindex(2, 3):
        assert torch.allclose(together[i, j], transfer(g_us[i, j], 1.0), rtol=1e-12)


def test_better_wires_approach_perfect_ones_in_proportion():
    g_us = cells(3, 20, 30)
    losses = [(g_us - transfer(g_us, ohm)).abs().max().item() for ohm in (1e-3, 1e-4, 1e-5)]
    assert losses[0] < 0.01 * 25
    assert losses[0] / losses[1] == pytest.approx(10, rel=0.01)
    assert losses[1] / losses[2] == pytest.approx(10, rel=0.01)


def test_power_delivered_is_lost_in_cells_and_wires():
    """Sum of V I at the drivers = sum of I^2 R everywhere; voltages from the oracle, sensed currents from T."""
    g_us, ohm, drive = cells(4, 6, 9), 2.0, np.linspace(-1, 1, 6)[:, None]
    words, bits = (v[..., 0] for v in node_voltages(g_us.numpy(), ohm, drive))
    wire, sensed = 1e6 / ohm, (drive[:, 0] @ transfer(g_us, ohm).numpy())
    delivered = (drive[:, 0] * wire * (drive[:, 0] - words[:, 0])).sum()
    lost = (g_us.numpy() * (words - bits) ** 2).sum() + (sensed**2 / wire).sum()
    lost += wire * ((drive[:, 0] - words[:, 0]) ** 2).sum()
    lost += wire * ((np.diff(words, axis=1) ** 2).sum() + (np.diff(bits, axis=0) ** 2).sum())
    assert lost == pytest.approx(delivered, rel=1e-9)


def test_wires_only_lose_current_and_most_where_the_way_is_longest():
    g_us = torch.full((40, 40), 25.0, dtype=torch.float64)
    kept = transfer(g_us, 1.0) / g_us
    assert kept.max() < 1
    assert kept.min() == kept[0, -1]
    assert kept.max() == kept[-1, 0]


@pytest.mark.slow
def test_transfer_is_differentiable():
    g_us = (cells(5, 3, 2) + 1).requires_grad_()
    assert torch.autograd.gradcheck(lambda g: transfer(g, 1000.0), g_us)


def layer(seed, planes=2):
    """(1, planes, columns, C_in, 2, 2) cells of 5 outputs in tiles of 3, 4 inputs in tiles of 3."""
    columns, rows = cut(5, 3), cut(4, 3)
    outputs = 5 if planes == 2 else 5 + len(columns)
    return cells(seed, 1, planes, outputs, 4, 2, 2), rows, columns


@pytest.mark.parametrize("opposite", [False, True])
@pytest.mark.parametrize("planes", [1, 2])
def test_each_tile_of_a_layer_is_solved_by_itself(planes, opposite):
    """Against the oracle, cut out by hand: rows in the order (input channel, y, x), an offset column last."""
    g_us, row_cuts, column_cuts = layer(6, planes)
    seen = through_wires(g_us, row_cuts, column_cuts, (50.0, 20.0), opposite)
    for plane in range(planes):
        for first, last in row_cuts:
            for c, (left, right) in enumerate(column_cuts):
                columns = [*range(left, right), *([5 + c] if planes == 1 else [])]
                tile = np.stack([g_us[0, plane, o, first:last].flatten().numpy() for o in columns], 1)
                expected = sensed_currents(tile, 50.0, opposite, 20.0)
                ours = np.stack([seen[0, plane, o, first:last].flatten().numpy() for o in columns], 1)
                assert relative(ours, expected) < 1e-9


def test_drive_and_sense_exchanged_at_the_same_terminals_is_the_transpose():
    """Reciprocity, on the oracle's own terms: columns driven where they were sensed, rows sensed where driven."""
    g_us = cells(7, 5, 8).numpy()
    turned = sensed_currents(g_us[::-1, ::-1].T, 10.0)[::-1, ::-1].T
    assert relative(turned, transfer(torch.tensor(g_us), 10.0).numpy()) < 1e-9


def test_opposite_terminals_break_the_symmetry_the_more_the_wires_resist():
    g_us = cells(8, 40, 50)

    def gap(wire_ohm):
        same, other = transfer(g_us, wire_ohm), transfer(g_us.flip(0, 1), wire_ohm).flip(0, 1)
        return ((same - other).norm() / same.norm()).item()

    small, middle, large = (gap(ohm) for ohm in (0.01, 0.35, 3.0))
    assert small < 1e-3 < middle < large < 0.5


@pytest.mark.parametrize(("g_us", "wire_ohm", "words"), [
    (1.0, 0.0, "wire_ohm.*0 ohm"), (1.0, -1.0, "wire_ohm.*-1 ohm"), (1.0, np.nan, "wire_ohm"),
    (-1.0, 1.0, "smallest -1 uS"), (np.nan, 1.0, "uS")])
def test_a_grid_without_a_solution_is_refused(g_us, wire_ohm, words):
    with pytest.raises(Refusal, match=words):
        transfer(torch.full((3, 2), g_us), wire_ohm)
