"""Findings: how far a rung's cause may change a quantity of a layer, and how far it did."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ep_hw.diagnosis.divergence import States
from mapping.graph import Coupling, EPGraph
from mapping.program import Table
from simulators.machine import Machine
from simulators.reference import FloatSubstrate, ReferenceMachine
from simulators.relaxation import relax

Fault = str | Callable[[], str | None]   # in words, or what finds them; None for none that is known
UNNAMED = "no known fault explains it"
_SWEEPS = 2   # taken before a machine is probed: states are busy, and not yet at rest


@dataclass(frozen=True)
class Finding:
    """One quantity of one layer of one rung, against the most that is allowed.

    Attributes:
        rung: the machine.
        layer: coupling or population.
        quantity: that was measured, with its unit.
        measured: in that unit.
        allowed: in that unit.
        fault: the error in words; empty where the quantity is within its allowance.
    """

    rung: str
    layer: str
    quantity: str
    measured: float
    allowed: float
    fault: str = ""

    def sentence(self) -> str:
        """The fault in words."""
        return f"{self.layer} of {self.rung}: {self.fault}"


def judged(rung: str, layer: str, quantity: str, measured: float, allowed: float, fault: Fault = "") -> Finding:
    """A finding; the fault explains a measure beyond its allowance."""
    if measured <= allowed:
        return Finding(rung, layer, quantity, float(measured), float(allowed))
    known = fault if isinstance(fault, str) else fault()
    return Finding(rung, layer, quantity, float(measured), float(allowed),
                   known or f"{quantity} {measured:.3g}, allowed {allowed:.3g}; {UNNAMED}")


def finding_table(findings: list[Finding]) -> Table:
    """A row for every quantity of every rung: its faults, or else the layer that comes closest to one."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.rung, finding.quantity), []).append(finding)
    shown = [f for group in groups.values()
             for f in [x for x in group if x.fault] or [max(group, key=lambda x: x.measured / (x.allowed or 1))]]
    rows = tuple((f.rung, f.quantity, f.layer, f"{f.measured:.3g}", f"{f.allowed:.3g}", f.fault or "ok") for f in shown)
    columns = ("machine", "quantity", "layer", "measured", "allowed", "verdict")
    return Table("what each rung did at worst, and may do", columns, rows)


@dataclass(frozen=True, eq=False)
class Scene:
    """The network and the images that every rung is examined with.

    Attributes:
        graph: the network as it was lowered.
        images: (B, C, H, W) in [0, 1].
        seed: of the read noise.
    """

    graph: EPGraph
    images: Tensor
    seed: int

    @cached_property
    def states(self) -> States:
        """The reference's states after a few sweeps."""
        steps = _SWEEPS * self.graph.period
        return ReferenceMachine(self.graph).relax(self.images, steps).states

    @property
    def starts(self) -> tuple[States, ...]:
        """States to start a step from: zeros, where only the image drives, and busy ones, where feedback does too."""
        return tuple(map(torch.zeros_like, self.states)), self.states

    @property
    def size(self) -> float:
        """The largest of these states, at least 1: what rounding is relative to."""
        return max(1.0, *map(largest, self.states))

    @property
    def layers(self) -> tuple[Coupling, ...]:
        """The couplings from the image to the top, then the readout."""
        return (*self.graph.couplings, self.graph.readout)


def exact_step(graph: EPGraph, images: Tensor, states: States) -> States:
    """Equations (1) to (3) of `mapping.graph` in float64: one synchronous step from given states."""
    substrate = FloatSubstrate.of(graph, dtype=torch.float64)
    return relax(substrate, images.double(), schedule="synchronous", steps=1,
                 states=tuple(s.double() for s in states)).states


def step_findings(rung: str, machine: Machine, graph: EPGraph, images: Tensor, starts: Sequence[States],
                  allowed: Sequence[float], *, tops: Sequence[float] = (), fault: Fault = "") -> list[Finding]:
    """A synchronous step of a machine against the exact one of a graph, from the start where they differ most.

    Args:
        rung: the machine's name.
        machine: that takes the step.
        graph: whose exact step it should be.
        images: (B, C, H, W) in [0, 1].
        starts: states to step from.
        allowed: largest gap of each layer.
        tops: largest state of each layer that the machine has; those of the graph if empty.
        fault: that explains a larger gap.
    """
    ends = tops or [population.ceiling for population in graph.populations]

    def gaps(states: States) -> list[float]:
        step = machine.relax(images, 1, states=states, schedule="synchronous").states
        return [largest(a - b.clamp(max=top)) for a, b, top in zip(step, exact_step(graph, images, states), ends)]

    worst = max(map(gaps, starts), key=lambda measured: max(g / a for g, a in zip(measured, allowed)))
    return [judged(rung, population.name, "gap of a step to the exact one", gap, most, fault)
            for population, gap, most in zip(graph.populations, worst, allowed)]


def largest(difference: Tensor | np.ndarray) -> float:
    """Largest magnitude of an array or tensor."""
    return float(np.abs(np.asarray(difference)).max())


def different_network(rung: str, graph: EPGraph, scene: Scene) -> list[Finding]:
    """Differences between a program's own copy of the network and the network."""
    findings = [judged(rung, "network", "schedule", float(graph.schedule != scene.graph.schedule), 0,
                       f"its schedule is {graph.schedule}, the network's is {scene.graph.schedule}")]
    others = [ours != wanted for ours, wanted in zip(zip(graph.populations, graph.gains),
                                                     zip(scene.graph.populations, scene.graph.gains))]
    for ours, wanted, other in zip((*graph.couplings, graph.readout), scene.layers, [*others, False]):
        gap = max(largest(ours.weight - wanted.weight), largest(ours.bias - wanted.bias), float(other))
        findings.append(judged(rung, ours.name, "network", gap, 0, "it was compiled from another network"))
    return findings
