"""How fast the Loihi target is, side by side with its peers.

    uv run --isolated --python 3.10 python -m benchmarks.lava [REPEATS]

Peers take turns, so that whatever else the machine does meets all of them; a ratio is one of medians. Every peer
computes on one thread. Where Lava's processes run beside each other, CPU time is the fair measure, and both are shown.
The network has the shapes of the CIFAR-10 network of Laborieux et al. 2021, and random weights.
"""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.io.source import RingBuffer as Source
from threadpoolctl import threadpool_limits

import mapping
from benchmarks.turns import HEADER, Row, take_turns, timed
from mapping.graph import Coupling, EPGraph, Population
from simulators.loihi.arithmetic import Synapses, arithmetic_of
from simulators.loihi.clock import CELLS, Clock
from simulators.loihi.processes.connections import ForwardConnection
from simulators.loihi.processes.image import Image
from simulators.loihi.processes.probe import Probe
from simulators.loihi.session import LavaSession

CHANNELS, PADDINGS, CLASSES = (128, 256, 512, 512), (1, 1, 1, 0), 10
BATCH, STEPS = 8, 4
SMALL = {"pypy_channel_size": 2}   # Lava's channels take 64 messages unless told otherwise


def paper_graph() -> EPGraph:
    """The paper's shapes on 32 x 32 images, weights uniform within 1 / sqrt(fan-in)."""
    rng, pre, couplings = np.random.default_rng(0), (3, 32, 32), []
    for n, (channels, padding) in enumerate(zip(CHANNELS, PADDINGS), 1):
        couplings.append(_layer(rng, f"conv{n}", (channels, pre[0], 3, 3), padding, 2, pre))
        pre = couplings[-1].post
    populations = tuple(Population(f"layer{n}", c.post, 0.5) for n, c in enumerate(couplings, 1))
    readout = _layer(rng, "readout", (CLASSES, *pre), 0, 1, pre)
    return EPGraph((3, 32, 32), np.zeros(3, np.float32), np.ones(3, np.float32), populations, tuple(couplings), readout,
                   "synchronous", 250, 1e-3)


def _layer(rng, name, shape, padding, pool, pre) -> Coupling:
    reach = 1 / np.sqrt(np.prod(shape[1:]))
    weight, bias = (rng.uniform(-reach, reach, size).astype(np.float32) for size in (shape, shape[:1]))
    return Coupling(name, weight, bias, padding, pool, pre)


def cpu_of_group(leader: int) -> float:
    """CPU seconds that the living processes of a group have used."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue   # ended meanwhile
        if int(fields[2]) == leader:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def lava_against_its_arithmetic(repeats: int) -> list[Row]:
    """(a) A batch's relaxation on Lava, and the same functions called one after the other in this process."""
    program = mapping.compile(paper_graph(), "lava")
    image = np.random.default_rng(1).integers(0, 2**program.input_bits, (BATCH, 3, 32, 32)).astype(np.int32)
    session = LavaSession(program, BATCH)
    session.shared_arrays["image"][...] = image

    def on_lava():
        session.clock.begin()
        for n in range(len(CHANNELS)):
            session.shared_arrays[f"history.{n}"][0] = 0
        before, start = cpu_of_group(session.leader), time.perf_counter()
        session.run(STEPS, 600)
        return time.perf_counter() - start, cpu_of_group(session.leader) - before

    states = []
    (wall, cpu), (wall_alone, cpu_alone) = take_turns(
        repeats, on_lava, lambda: timed(lambda: states.append(relax(program, image))))
    for n, state in enumerate(states[-1]):
        held = session.shared_arrays[f"history.{n}"][STEPS]
        assert np.array_equal(held, state), "the two sides computed different things"
    session.close()
    what = f"{STEPS} steps of {BATCH} images on Lava / its arithmetic alone"
    return [Row(f"{what}, wall", wall, wall_alone, 1.2), Row(f"{what}, CPU", cpu, cpu_alone, 1.2)]


def relax(program, image) -> list[np.ndarray]:
    """Synchronous steps from zero with the arithmetic of Lava's processes, without Lava."""
    arithmetic = arithmetic_of(program)
    states = [np.zeros((len(image), *p.shape), np.int32) for p in program.graph.populations]
    for _ in range(STEPS):
        reads = [s.forward(below) for s, below in zip(arithmetic.synapses, [image, *states[:-1]])]
        drives = [drive for drive, _ in reads]
        for n in range(1, len(states)):
            drives[n - 1] = drives[n - 1] + arithmetic.synapses[n].backward(states[n], reads[n][1])
        arithmetic.readout.logits(states[-1])
        states = [activate(drive) for activate, drive in zip(arithmetic.activations, drives)]
    return states


def coupling_against_stock_convolution(repeats: int) -> list[Row]:
    """(b) One 128 -> 256 layer on 16 x 16 maps: lava.proc.conv.Conv, and one of our connections, per image."""
    rng = np.random.default_rng(2)
    weight = rng.integers(-127, 128, (256, 128, 3, 3))
    states = rng.integers(0, 256, (BATCH, 128, 16, 16)).astype(np.int32)
    coupling = Coupling("conv", weight.astype(np.float32), np.zeros(256, np.float32), 1, 1, (128, 16, 16))
    stock, ours = _stock(weight, states[0]), _connection(coupling, states)
    (theirs, _), (time_of_ours, _) = take_turns(repeats, stock.run, ours.run)
    assert np.array_equal(stock.result().transpose(2, 0, 1), ours.result()[0]), "the two convolutions differ"
    stock.stop()
    ours.stop()
    what = "one image, 128->256: our convolution / lava.proc.conv, wall"
    return [Row(what, time_of_ours / BATCH, theirs, 100, faster=True)]


@dataclass(frozen=True)
class _LavaRun:
    """A small Lava program that runs one step at a time."""

    process: object
    result: object

    def run(self):
        config = Loihi2SimCfg(select_tag="fixed_pt")
        return timed(lambda: self.process.run(RunSteps(1), config, compile_config=SMALL))

    def stop(self):
        self.process.stop()


def _stock(weight, state) -> _LavaRun:
    """Lava's convolution flips its kernel, and sends at each step what it computed in the one before."""
    source = Source(data=state.transpose(1, 2, 0)[..., None])
    flipped = weight[:, :, ::-1, ::-1].transpose(0, 2, 3, 1)
    layer = Conv(weight=flipped, input_shape=source.s_out.shape, padding=1, num_message_bits=16, name="stock")
    source.s_out.connect(layer.s_in)
    probe = Probe(port=layer.a_out, length=1)
    return _LavaRun(layer, lambda: probe.record[0])


def _connection(coupling, states) -> _LavaRun:
    clock = Clock(np.zeros(CELLS, np.int64))
    image = Image(name="image", pixels=states, clock=clock, events=False)
    layer = ForwardConnection(name="conv", synapses=Synapses(coupling.weight, coupling), batch=BATCH,
                              clock=clock, events=False)
    image.up.connect(layer.below_in)
    probe = Probe(port=layer.above_out, length=1)
    return _LavaRun(layer, lambda: probe.record[0])


def twin_against_reference(repeats: int) -> list[Row]:
    """(c) A step of the integer twin, and one of the float reference."""
    import torch  # not before Lava has forked

    import simulators

    torch.set_num_threads(1)
    graph, images = paper_graph(), torch.rand(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    twin, reference = (simulators.open(mapping.compile(graph, name)) for name in ("loihi", "reference"))
    (ours, ours_cpu), (theirs, theirs_cpu) = take_turns(
        repeats, *(lambda m=m: timed(lambda: m.relax(images, STEPS)) for m in (twin, reference)))
    what = f"{STEPS} steps of {BATCH} images on the twin / on the float reference"
    return [Row(f"{what}, wall", ours, theirs, 1.1), Row(f"{what}, CPU", ours_cpu, theirs_cpu, 1.1)]


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    print(HEADER)
    with threadpool_limits(1):
        for compare in (coupling_against_stock_convolution, lava_against_its_arithmetic, twin_against_reference):
            for row in compare(repeats):
                print(row, flush=True)


if __name__ == "__main__":
    main()
