"""Measurements of analog machines: cost beside Loihi's, two directions, continuous time, noise of the read-out.

Each function yields plain rows, one a machine.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import torch

import mapping
import simulators
from ep_hw.data.splits import Split
from mapping.crossbar.target import CROSSBAR_RUNGS, Causes, CrossbarTarget
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.loihi.program import LoihiProgram
from mapping.program import Table
from mapping.registry import parse
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.continuous import Circuit, settle
from simulators.crossbar.stability import measure_stability
from simulators.loihi.energy import mean_cost
from simulators.loihi.events import count_events
from simulators.machine import Cost, Machine

_UNITS = {"s": "s", "j": "J"}
SYMMETRY_NOTE = ("asymmetry: |W_f - W_b| / |W_f|, the largest of all layers; then shares of sweeps, of the energy's "
                 "range (in one sweep), and of images; period in sweeps. Without read noise; where there are "
                 "converters, their rounding too can raise the energy.")
SETTLING_NOTE = ("settling: median and worst image; energy: heat of the devices, mean over images; same fixed point: "
                 "share of images that end where the discrete relaxation does, to 20 tolerances. Without read noise.")
READOUT_NOTE = ("in logits: sd over reads; bias of their mean against the chip without read noise; unfinished: how far "
                "as many steps leave that chip from rest. Averages lower the sd alone; leaky steps also what noisy "
                "states add to the bias, but not what clamping takes from noisy reads.")


def crossbar_target(machine: str) -> CrossbarTarget:
    """The crossbar that a user named.

    Raises:
        Refusal: another machine.
    """
    target = parse(machine)
    if not isinstance(target, CrossbarTarget):
        raise Refusal("not an analog machine", where="--on", got=machine, allowed="crossbar:PRESET",
                      remedy="choose one of 'ep-hw machines'")
    return target


def quiet(target: CrossbarTarget) -> CrossbarTarget:
    """The same chip without fresh read noise."""
    without = Causes(r for r in CROSSBAR_RUNGS if r in (*target.without, "read"))
    return replace(target, without=without) if target.is_noisy else target


def measure_cost(graph: EPGraph, machines: Sequence[str], images: torch.Tensor) -> Iterator[dict]:
    """Estimated energy (J), latency (s) and area (mm2) of relaxing one image, each with its range.

    Crossbars take what their program takes; Loihi machines the mean over `images`, by their events.
    """
    for name in machines:
        program = mapping.compile(graph, name)
        with simulators.open(program) as machine:
            cost = _loihi_cost(program, machine, images) if isinstance(program, LoihiProgram) else machine.cost()
            yield {"machine": program.target.shown, "operations": cost.operations,
                   **_ranged("energy", "j", cost.energy_j, cost.energy_range_j),
                   "neighbour_j": cost.neighbour_j, **_ranged("latency", "s", cost.latency_s, cost.latency_range_s),
                   **_ranged("area", "mm2", cost.area_mm2, cost.area_range_mm2), "source": cost.source}


def cost_table(rows: Sequence[dict]) -> Table:
    """A line a machine; the sources of each family below."""
    def span(row: dict, kind: str, unit: str, scale: float) -> str:
        if row[f"{kind}_{unit}"] is None:
            return "unknown"
        low, high = (scale * row[f"{kind}_{end}_{unit}"] for end in ("low", "high"))
        return f"{scale * row[f'{kind}_{unit}']:.3g} ({low:.3g} to {high:.3g})"

    lines = tuple((r["machine"], f"{r['operations'] / 1e6:.3g}", span(r, "energy", "j", 1e6),
                   "" if r["neighbour_j"] is None else f"{1e6 * r['neighbour_j']:.3g}",
                   span(r, "latency", "s", 1e3), span(r, "area", "mm2", 1)) for r in rows)
    columns = ("machine", "operations, M", "energy, uJ", "Hala Point, uJ", "latency, ms", "area, mm2")
    return Table("estimated cost of one image", columns, lines, tuple(dict.fromkeys(r["source"] for r in rows)))


def measure_symmetry(graph: EPGraph, machines: Iterable[str], images: torch.Tensor, chips: int,
                     sweeps: int) -> Iterator[dict]:
    """Asymmetry, and what it does to energy and rest under the alternating schedule, without fresh noise."""
    for name, chip in product(machines, range(chips)):
        asked = crossbar_target(name)
        target = quiet(asked)
        with CrossbarMachine(mapping.compile(graph, target), chip) as machine:
            stability = measure_stability(machine, images, sweeps)
        yield {"machine": asked.shown, "run_as": str(target), "chip": chip, "images": len(images),
               "asymmetry": stability.asymmetry, "sweeps_that_raise_energy": stability.rises().mean().item(),
               "largest_rise": stability.largest_rise.max().item(), "at_rest": stability.rest.double().mean().item(),
               "in_limit_cycles": (stability.period > 0).double().mean().item(),
               "longest_period": int(stability.period.max())}


def measure_settling(graph: EPGraph, machines: Iterable[str], split: Split, circuit: Circuit, chip: int,
                     tolerance: float) -> Iterator[dict]:
    """Settling in continuous time, and how far from the discrete fixed points it ends."""
    for name in machines:
        asked = crossbar_target(name)
        target = quiet(asked)
        with CrossbarMachine(mapping.compile(graph, target), chip) as machine:
            settled = settle(machine, split.images, circuit, tolerance=tolerance)
            discrete = machine.relax(split.images)
        prediction = settled.logits.argmax(1)
        gap = torch.stack([(a - b).abs().flatten(1).amax(1) for a, b in zip(settled.states, discrete.states)]).amax(0)
        yield {"machine": asked.shown, "run_as": str(target), "images": len(split),
               "settled": settled.converged.double().mean().item(),
               "settling_s": settled.settling_s.median().item(), "settling_worst_s": settled.settling_s.max().item(),
               "energy_j": settled.energy_j.mean().item(), "tau_shortest_s": settled.tau_s[0],
               "tau_longest_s": settled.tau_s[1], "accuracy": (prediction == split.labels).double().mean().item(),
               "agreement": (prediction == discrete.prediction).double().mean().item(),
               "same_fixed_point": (gap <= 20 * tolerance).double().mean().item()}


def measure_readout(graph: EPGraph, machine: str, images: torch.Tensor, dts: Sequence[float],
                    windows: Sequence[int], reads: int, chip: int, seed: int) -> Iterator[dict]:
    """What leaky steps and an averaged read-out do to the logits' noise.

    Over reads r of the same chip and images, against the chip without fresh noise, logits y:

        sd^2 = mean over images and classes of var_r(y),    bias^2 = mean of (mean_r(y) - y_quiet)^2 - sd^2 / reads

    y_quiet after as many steps as the noisy chip takes; `unfinished` is how far (root mean square) they leave it from
    where it is after the checkpoint's most steps, over dt of them.
    """
    target = crossbar_target(machine)
    for dt, window in product(dts, windows):
        noisy = target.having(dt=dt, readout_steps=window)
        program = mapping.compile(graph, noisy)
        silent = mapping.compile(graph, quiet(noisy).having(steps=program.steps))
        with simulators.open(silent, chip_seed=chip) as still:
            exact, rest = (still.relax(images, n).logits.double() for n in (program.steps, round(graph.steps / dt)))
        with simulators.open(program, chip_seed=chip) as moving:
            seen = torch.stack([moving.relax(images, program.steps, generator=torch.Generator().manual_seed(seed + r))
                                .logits for r in range(reads)]).double()
        variance, squared = seen.var(0).mean().item(), (seen.mean(0) - exact).square().mean().item()
        yield {"machine": noisy.shown, "dt": dt, "readout_steps": window, "reads": reads, "sd": variance**0.5,
               "bias": max(squared - variance / reads, 0.0) ** 0.5,
               "unfinished": (exact - rest).square().mean().sqrt().item()}


def plain_table(title: str, rows: Sequence[dict], leave_out: Sequence[str] = (), note: str = "") -> Table:
    """A line a row, a column a key; a unit at a key's end follows a comma."""
    keys = [key for key in rows[0] if key not in leave_out]
    values = tuple(tuple(row[key] for key in keys) for row in rows)
    return Table(title, tuple(map(_head, keys)), values, (note,) if note else ())


def _head(key: str) -> str:
    words, _, unit = key.rpartition("_")
    return (f"{words}, {_UNITS[unit]}" if unit in _UNITS else key).replace("_", " ")


def _loihi_cost(program: LoihiProgram, machine: Machine, images: torch.Tensor) -> Cost:
    return mean_cost(program, count_events(machine, images, machine.relax(images).steps))


def _ranged(kind: str, unit: str, value: float | None, span: tuple[float, float] | None) -> dict:
    low, high = span or (value, value)
    return {f"{kind}_{unit}": value, f"{kind}_low_{unit}": low, f"{kind}_high_{unit}": high}
