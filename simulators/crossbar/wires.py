"""Wires that resist: exact transfer of a tile from its drive voltages to its sensed currents.

Each cell g_kj joins word line k to bit line j; neighbouring cells of a line are joined by one wire segment of
conductance G = 1/R, and so are the first cell of a word line and its driver (left), and the last cell of a bit line
and its sense amplifier (bottom, a virtual ground). Devices are linear, so I = V T with T independent of V: solved once
a programmed tile, after which a read is an ordinary product. Kirchhoff's current law at word line k reads

    A_k u_k = G V_k e_0 + g_k v_k,    A_k = tridiagonal of the segments + diag(g_k)                           (1)

and with u_k eliminated, at the bit nodes v_k of row k,

    E_k v_k = f_k V_k + (currents from rows k-1 and k+1),
    E_k = diag(g_k) - diag(g_k) A_k^-1 diag(g_k) + G (1 - K_{k-1}),    f_k = G diag(g_k) A_k^-1 e_0           (2)
    K_k = (1 + E_k / G)^-1,    C_k = K_k [C_{k-1}, f_k],    I = C_{rows-1} V                                  (3)

from the far end of the bit lines to the sensed one; what 1 - K loses of a small E, 1 + E / G does not see. A_k^-1
follows in closed form from the conductances p_i and q_i seen from node i towards the driver and towards the open end,
with g_i counted in both,

    (A^-1)_jj = 1 / (p_j + q_j - g_j),    (A^-1)_ij = (A^-1)_jj prod_{i <= l < j} G / (G + p_l)               (4)

which subtracts no large numbers. Where segments of bit lines have another conductance, it takes G's place in E_k and
K_k. The elimination runs along the longer side of the tile.
"""

from itertools import product

import torch
from torch import Tensor

from mapping.crossbar.encoding import Cuts
from mapping.errors import Refusal


def transfer(g_us: torch.Tensor, wire_ohm: float, bit_ohm: float | None = None) -> torch.Tensor:
    """T of equation (3).

    Args:
        g_us: (..., rows, columns) conductances in microsiemens; rows are driven, columns sensed.
        wire_ohm: resistance of one segment of a word line, above 0.
        bit_ohm: of a bit line; the same if None.

    Returns:
        (..., rows, columns) float64 in microsiemens: sensed current over drive voltage.

    Raises:
        Refusal: a resistance that is not above 0, or conductances below 0: a grid without a unique solution.
    """
    bit_ohm = wire_ohm if bit_ohm is None else bit_ohm
    for name, ohm in (("wire_ohm", wire_ohm), ("bit_ohm", bit_ohm)):
        if not 0 < ohm < float("inf"):
            raise Refusal("not a wire", where=name, got=f"{ohm:g} ohm", allowed="above 0 ohm, finite",
                          remedy="leave wires out where they are perfect")
    if not (g_us.detach() >= 0).all():
        raise Refusal("not conductances", where="tile", got=f"smallest {g_us.min().item():.3g} uS",
                      allowed="0 uS or more", remedy="clip the conductances")
    g_us, word_us, bit_us = g_us.double(), 1e6 / wire_ohm, 1e6 / bit_ohm
    if g_us.shape[-2] >= g_us.shape[-1]:
        return _eliminate(g_us, word_us, bit_us)
    return _other_way(_eliminate(_other_way(g_us), bit_us, word_us))


def through_wires(g_us: torch.Tensor, row_cuts: Cuts, column_cuts: Cuts, wire_ohm: tuple[float, float],
                  opposite: bool = False) -> torch.Tensor:
    """What an array's cells look like from outside, tile by tile, in the shape and type of `g_us`.

    A tile's used cells lie next to its drivers and sense amplifiers; each plane has wires of its own.

    Args:
        g_us: (slices, planes, columns, C_in, k_h, k_w), as `mapping.crossbar.encoding.StoredWeights.g_us`.
        wire_ohm: of one segment of word lines and of bit lines.
        opposite: drivers and sense amplifiers at the other ends of their lines.
    """
    groups: dict[tuple[int, int], list[tuple[slice, list[int]]]] = {}
    for (first, last), c in product(row_cuts, range(len(column_cuts))):
        columns = columns_of(c, column_cuts, g_us.shape[1])
        groups.setdefault((last - first, len(columns)), []).append((slice(first, last), columns))
    seen = torch.empty_like(g_us)
    for tiles in groups.values():
        cells = torch.stack([g_us[:, :, columns][:, :, :, rows].flatten(3).mT for rows, columns in tiles])
        cells = cells.flip(-1, -2) if opposite else cells
        currents = transfer(cells, *wire_ohm)
        currents = (currents.flip(-1, -2) if opposite else currents).mT.to(g_us)
        for (rows, columns), tile in zip(tiles, currents):
            seen[:, :, columns, rows] = tile.unflatten(-1, (rows.stop - rows.start, *g_us.shape[4:]))
    return seen


def columns_of(c: int, column_cuts: Cuts, planes: int) -> list[int]:
    """Columns of a layer's cells on column tile `c`; of a single plane, its offset column comes last."""
    return [*range(*column_cuts[c]), *([column_cuts[-1][1] + c] if planes == 1 else [])]


def tile_of(g_us: Tensor, row_cuts: Cuts, column_cuts: Cuts, r: int, c: int) -> Tensor:
    """(slices, planes, rows, columns) cells of tile (r, c) of a layer, of g_us as for `through_wires`."""
    columns = columns_of(c, column_cuts, g_us.shape[1])
    return g_us[:, :, columns][:, :, :, slice(*row_cuts[r])].flatten(3).mT


def _other_way(g_us: Tensor) -> Tensor:
    """The tile with rows and columns exchanged: by reciprocity, driving it senses what sensing it drives."""
    return g_us.mT.flip(-1, -2)


def _eliminate(g_us: Tensor, word_us: float, bit_us: float) -> Tensor:
    """Equations (2) and (3) in units of a bit line's segment, word lines in units of theirs."""
    inverse_diagonal, steps = _word_lines(g_us / word_us)
    identity = torch.eye(g_us.shape[-1], dtype=g_us.dtype, device=g_us.device)
    below, sensed = torch.zeros_like(identity), g_us.new_zeros((*g_us.shape[:-2], g_us.shape[-1], 0))
    for k in range(g_us.shape[-2]):
        along, g = g_us[..., k, :] / word_us, g_us[..., k, :] / bit_us
        green = _green(inverse_diagonal[..., k, :], steps[..., k, :])
        total = below - green * (g[..., :, None] * along[..., None, :]) + torch.diag_embed(g)
        passed = torch.cholesky_inverse(torch.linalg.cholesky(identity + total))
        injected = (g * green[..., 0])[..., None]
        sensed, below = passed @ torch.cat([sensed, injected], -1), identity - passed
    return sensed.mT * bit_us


def _word_lines(g: Tensor) -> tuple[Tensor, Tensor]:
    """(A^-1)_jj of equation (4), and -ln of the product from node 0 to each node; (..., rows, columns) both, G = 1."""
    towards_driver, towards_end = [g[..., 0] + 1], [g[..., -1]]
    for j in range(1, g.shape[-1]):
        for chain, own in ((towards_driver, g[..., j]), (towards_end, g[..., -1 - j])):
            chain.append(own + chain[-1] / (1 + chain[-1]))
    p, q = torch.stack(towards_driver, -1), torch.stack(towards_end[::-1], -1)
    logs = p.log1p().cumsum(-1)
    return 1 / (p + q - g), torch.cat([torch.zeros_like(logs[..., :1]), logs[..., :-1]], -1)


def _green(inverse_diagonal: Tensor, steps: Tensor) -> Tensor:
    """A^-1 of one word line from equation (4)."""
    upper = ((steps[..., :, None] - steps[..., None, :]).clamp_(max=0).exp() * inverse_diagonal[..., None, :]).triu()
    return upper + upper.triu(1).mT
