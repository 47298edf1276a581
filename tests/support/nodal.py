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
