"""Kirchhoff's current law at every node of a resistive grid, solved as one sparse system: the oracle of IR drop."""

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu


def node_voltages(g_us, wire_ohm, drive, opposite=False, bit_ohm=None):
    """Word-line and bit-line voltages, each (rows, columns, batch), for drive voltages (rows, batch).

    Rows are driven at the left and columns grounded at the bottom, or at the right and the top if `opposite`.
    """
    (m, n), wire, below = g_us.shape, 1e6 / wire_ohm, 1e6 / (bit_ohm or wire_ohm)
    word, bit = np.arange(m * n).reshape(m, n), m * n + np.arange(m * n).reshape(m, n)
    system, injected = sp.lil_matrix((2 * m * n, 2 * m * n)), np.zeros((2 * m * n, drive.shape[1]))

    def join(a, b, g):
        system[a, a] += g
        system[b, b] += g
        system[a, b] -= g
        system[b, a] -= g

    for k in range(m):
        for j in range(n):
            join(word[k, j], bit[k, j], g_us[k, j])
            if j + 1 < n:
                join(word[k, j], word[k, j + 1], wire)
            if k + 1 < m:
                join(bit[k, j], bit[k + 1, j], below)
    for k in range(m):
        end = word[k, -1 if opposite else 0]
        system[end, end] += wire
        injected[end] += wire * drive[k]
    for j in range(n):
        system[bit[0 if opposite else -1, j], bit[0 if opposite else -1, j]] += below
    voltages = splu(system.tocsc()).solve(injected)
    return voltages[word], voltages[bit]


def sensed_currents(g_us, wire_ohm, opposite=False, bit_ohm=None):
    """(rows, columns) in microsiemens: current into each column's ground for 1 V on each row alone."""
    bits = node_voltages(g_us, wire_ohm, np.eye(len(g_us)), opposite, bit_ohm)[1]
    return (bits[0 if opposite else -1] * (1e6 / (bit_ohm or wire_ohm))).T


def settled_currents(g_us, wire_ohm, drive, sinh, opposite=False, bit_ohm=None):
    """(columns,) microsiemens x volts into each column's ground, where devices let through g sinh(sinh v) / sinh(sinh)
    at v: Newton's method on the voltages of all nodes of the grid, for drive voltages (rows,).
    """
    (m, n), wire, below = g_us.shape, 1e6 / wire_ohm, 1e6 / (bit_ohm or wire_ohm)
    word, bit = np.arange(m * n).reshape(m, n), m * n + np.arange(m * n).reshape(m, n)
    wires, injected = sp.lil_matrix((2 * m * n, 2 * m * n)), np.zeros(2 * m * n)
    pairs = [(word[:, :-1], word[:, 1:], wire), (bit[:-1], bit[1:], below)]
    for a, b, g in ((a, b, g) for one, two, g in pairs for a, b in zip(one.ravel(), two.ravel())):
        wires[[a, b], [a, b]] += np.array([g, g])
        wires[[a, b], [b, a]] -= np.array([g, g])
    ends, grounds = word[:, -1 if opposite else 0], bit[0 if opposite else -1]
    wires[ends, ends] += np.full(m, wire)
    wires[grounds, grounds] += np.full(n, below)
    injected[ends] = wire * drive
    wires, across = wires.tocsc(), sp.csc_matrix(
        (np.tile([1.0, -1.0], m * n), (np.repeat(np.arange(m * n), 2), np.stack([word, bit], -1).ravel())),
        shape=(m * n, 2 * m * n))
    volts, g = np.zeros(2 * m * n), g_us.ravel()
    for _ in range(100):
        seen = across @ volts
        off = wires @ volts + across.T @ (g * np.sinh(sinh * seen) / np.sinh(sinh)) - injected
        slope = sp.diags(g * sinh * np.cosh(sinh * seen) / np.sinh(sinh))
        step = splu((wires + across.T @ slope @ across).tocsc()).solve(-off)
        volts = volts + step
        if np.abs(step).max() < 1e-13 * max(1e-9, np.abs(drive).max()):
            break
    return volts[grounds] * below
