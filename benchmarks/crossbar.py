"""How fast the analog crossbar is, side by side with plain convolutions and a sparse solver.

    python -m benchmarks.crossbar [REPEATS]

Peers take turns, so that whatever else the machine does meets all of them; a ratio is one of medians of CPU seconds, on
one thread. The convolution has 64 channels to 128, 3 x 3, on 16 x 16 maps, 32 images at once, on tiles of 256 x 256.
`benchmarks.analog` compares whole networks with aihwkit's. The process keeps the memory that it frees, as training does
and evaluations do. Measured on 1 December 2026 on an EPYC without AVX-512, beside other processes: forward 1.5 and
2.6 times a convolution, feedback 1.6 and 3.2; on an idle Xeon with AVX-512, whose convolutions are faster, 1.7 and 2.6,
1.8 and 3.2.
"""

import sys

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from scipy.sparse.linalg import splu

from benchmarks.turns import HEADER, Row, cpu_seconds, help_if_asked
from mapping.crossbar.encoding import store
from mapping.crossbar.program import cut
from mapping.graph import Window
from mapping.registry import parse
from simulators.crossbar.array import Array, Cells, normal_like
from simulators.crossbar.periphery import Converter
from simulators.crossbar.projection import CrossbarProjection, Periphery
from simulators.crossbar.wires import transfer
from simulators.heap import kept

BATCH, CHANNELS, OUTPUTS, SIDE, KERNEL = 32, 64, 128, 16, 3
WIRE_OHM = 1.0


def convolutions(repeats: int) -> list[Row]:
    """(a) A layer read both ways: with converters and noise of the outputs, then with noise of every device's own."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(OUTPUTS, CHANNELS, KERNEL, KERNEL, generator=generator) / 24
    dense = weight.contiguous(memory_format=torch.channels_last)
    images, above = (_maps(channels, generator) for channels in (CHANNELS, OUTPUTS))
    output_noise, device_noise = _projection(weight, 0.0), _projection(weight, 0.3)

    def noisy_outputs(read):
        """Converters, and one normal an output of every read: noise that does not depend on the drive."""
        values = read()
        return values + 0.01 * normal_like(values, generator)

    times = cpu_seconds(
        repeats, lambda: F.conv2d(images, dense, padding=1),
        lambda: noisy_outputs(lambda: output_noise.forward(images)[0]),
        lambda: device_noise.forward(images, generator), lambda: F.conv_transpose2d(above, dense, padding=1),
        lambda: noisy_outputs(lambda: output_noise.backward(above, None)),
        lambda: device_noise.backward(above, None, generator))
    plain, outputs_up, devices_up, plain_down, outputs_down, devices_down = times
    return [Row("forward, DAC, ADC and output noise / conv2d", outputs_up, plain, 1.7),
            Row("forward, DAC, ADC and read noise of devices / conv2d", devices_up, plain, 3.2),
            Row("feedback, converted before overlap-add / conv_transpose2d", outputs_down, plain_down, 1.8),
            Row("feedback, and read noise of devices / conv_transpose2d", devices_down, plain_down, 3.4)]


def _maps(channels: int, generator) -> torch.Tensor:
    maps = torch.rand(BATCH, channels, SIDE, SIDE, generator=generator)
    return maps.contiguous(memory_format=torch.channels_last)


def _projection(weight: torch.Tensor, noise_us: float) -> CrossbarProjection:
    """The layer on tiles of 256 x 256, with 8-bit converters."""
    rows, columns = cut(CHANNELS, 256 // KERNEL**2), cut(OUTPUTS, 256)
    stored = store(weight.numpy(), parse("crossbar:ideal"), columns)
    g_us = torch.tensor(stored.g_us)
    fresh_us = noise_us * torch.ones_like(g_us) if noise_us else None
    array = Array(Cells(g_us, rows, columns), fresh_us, stored.us_per_weight, 1.0)
    dac, adc = (Converter(torch.tensor(scale), 8, signed) for scale, signed in ((1.0, False), (2.0, True)))
    peripheries = [Periphery(dac, (adc,) * len(lines)) for lines in (array.forward_lines, array.backward_lines)]
    window = Window((KERNEL, KERNEL), 1, 1, 1, (CHANNELS, SIDE, SIDE), (OUTPUTS, SIDE, SIDE))
    ones = torch.ones(OUTPUTS)
    return CrossbarProjection((array, array), peripheries, 0 * ones, ones, window)


def wires(repeats: int) -> list[Row]:
    """(b) T of a tile, and the same by a sparse LU solve with all right-hand sides."""
    g_us = 25 * torch.rand(256, 256, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    large, small = cpu_seconds(repeats, lambda: transfer(g_us, WIRE_OHM), lambda: transfer(g_us[:128, :128], WIRE_OHM))
    theirs, = cpu_seconds(1, lambda: nodal(g_us[:128, :128].numpy(), WIRE_OHM))
    return [Row("T of 256 x 256, seconds", large, None, 1.2), Row("T of 128 x 128, seconds", small, None, 0.12),
            Row("T of 128 x 128 / sparse LU with all right-hand sides", small, theirs, 1.0)]


def nodal(g_us: np.ndarray, wire_ohm: float) -> np.ndarray:
    """(rows, columns) sensed currents for 1 V on each row alone, from Kirchhoff's current law at every node."""
    (m, n), wire = g_us.shape, 1e6 / wire_ohm
    along, across = (sp.diags([np.ones(k - 1), np.ones(k - 1)], [-1, 1]) for k in (n, m))
    words = sp.kron(sp.eye(m), sp.diags(np.asarray(along.sum(0)).ravel() + np.eye(n)[0]) - along) * wire
    bits = sp.kron(sp.diags(np.asarray(across.sum(0)).ravel() + np.eye(m)[-1]) - across, sp.eye(n)) * wire
    cells = sp.diags(g_us.ravel())
    driven = np.zeros((2 * m * n, m))
    driven[np.arange(m) * n, np.arange(m)] = wire
    solved = splu(sp.bmat([[words + cells, -cells], [-cells, bits + cells]], format="csc")).solve(driven)
    return wire * solved[2 * m * n - n:].T


@kept()
def main():
    help_if_asked(__doc__)
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    print(HEADER)
    for row in (*convolutions(repeats), *wires(max(1, repeats // 3))):
        print(row)


if __name__ == "__main__":
    main()
