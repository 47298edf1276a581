"""Accuracy against events: what a Loihi program sends when its populations keep small changes to themselves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

import mapping
import simulators
from ep_hw.analysis.statistics import wilson
from ep_hw.data.splits import Split
from mapping.errors import Refusal
from mapping.graph import EPGraph
from mapping.loihi.target import LoihiTarget
from mapping.program import Table
from mapping.registry import parse
from simulators.loihi.energy import SOURCE, mean_cost
from simulators.loihi.events import EventCount, count_events
from simulators.machine import Cost, Equilibrium, Machine
from simulators.reference import ReferenceMachine

THRESHOLDS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.4)
BATCH = 100   # images whose every step is held at once


@dataclass(frozen=True, eq=False)
class EventPoint:
    """One machine on the images.

    Attributes:
        threshold: in units of the state; None where whole states are sent.
        correct, agreeing: images that it gets right, and that it classifies as the reference does; of `images`.
        steps: (B,), time steps taken.
        count, cost: what was sent, and the mean estimate for an image.
    """

    machine: str
    threshold: float | None
    images: int
    correct: int
    agreeing: int
    steps: torch.Tensor
    count: EventCount
    cost: Cost

    @property
    def events(self) -> float:
        """Events of the populations, mean over images."""
        return float(self.count.events[:, :, 1:].sum((1, 2)).mean())

    def row(self, layers: Sequence[str]) -> dict:
        """Plain values; events a step and layer are means over images, time 0 first."""
        low, high = wilson(self.correct, self.images)
        per_step = self.count.events.mean(0).round(3)
        cost = self.cost
        energy, latency = (span or (None, None) for span in (cost.energy_range_j, cost.latency_range_s))
        return {"machine": self.machine, "threshold": self.threshold, "images": self.images,
                "accuracy": self.correct / self.images, "ci_low": low, "ci_high": high,
                "agreement": self.agreeing / self.images, "steps": float(self.steps.double().mean()),
                "events": self.events, "operations": cost.operations, "sparsity": float(self.count.sparsity.mean()),
                "energy_j": cost.energy_j, "energy_low_j": energy[0], "energy_high_j": energy[1],
                "neighbour_j": cost.neighbour_j,
                "latency_s": cost.latency_s, "latency_low_s": latency[0], "latency_high_s": latency[1],
                "events_per_step": {name: per_step[:, n].tolist() for n, name in enumerate(("image", *layers))}}


def event_targets(machine: str, thresholds: Iterable[float]) -> list[LoihiTarget]:
    """The machine with whole states, then with each threshold, rising.

    Raises:
        Refusal: a machine that sends no events, or a threshold out of range.
    """
    target = parse(machine)
    if not (isinstance(target, LoihiTarget) and target.is_whole):
        raise Refusal("this machine sends no events", where="--on", got=machine, allowed="loihi, lava",
                      remedy="choose one of these, with options in brackets if you like")
    return [replace(target, threshold=threshold) for threshold in (None, *sorted(set(thresholds)))]


def measure_events(graph: EPGraph, targets: Iterable[LoihiTarget], split: Split) -> Iterable[EventPoint]:
    """Run every target on the images of `split`; one point at a time, as they are finished."""
    reference = ReferenceMachine(graph).relax(split.images).prediction
    for target in targets:
        program = mapping.compile(graph, target)
        with simulators.open(program) as machine:
            ends, counts = zip(*(_run(machine, images) for images in split.images.split(BATCH)))
        prediction, count = torch.cat([end.prediction for end in ends]), EventCount.join(list(counts))
        yield EventPoint(target.shown, target.threshold, len(split), int((prediction == split.labels).sum()),
                         int((prediction == reference).sum()), torch.cat([end.steps for end in ends]), count,
                         mean_cost(program, count))


def _run(machine: Machine, images: torch.Tensor) -> tuple[Equilibrium, EventCount]:
    end = machine.relax(images)
    return end, count_events(machine, images, end.steps)


def event_table(rows: Sequence[dict]) -> Table:
    """A line a machine, from `EventPoint.row`: accuracy, what it sent, and what that may cost."""
    lines = []
    for row in rows:
        energy, latency = (f"{row[name] * scale:.3g} ({row[f'{kind}_low_{unit}'] * scale:.2g} to "
                           f"{row[f'{kind}_high_{unit}'] * scale:.2g})"
                           for name, kind, unit, scale in (("energy_j", "energy", "j", 1e6),
                                                           ("latency_s", "latency", "s", 1e3)))
        lines.append((threshold_name(row["threshold"]), f"{row['accuracy']:.3f}",
                      f"{row['ci_low']:.3f} to {row['ci_high']:.3f}", f"{row['agreement']:.3f}", f"{row['steps']:.1f}",
                      f"{row['events']:.0f}", f"{row['operations'] / 1e3:.0f}", f"{row['sparsity']:.3f}", energy,
                      f"{1e6 * row['neighbour_j']:.3g}", latency))
    columns = ("threshold", "accuracy", "95 %", "agreement", "steps", "events", "operations, k", "sparsity",
               "energy, uJ", "Hala Point, uJ", "latency, ms")
    return Table(f"{rows[0]['machine']}: an image", columns, tuple(lines), (SOURCE,))


def sent_by_sweep(per_step: Mapping[str, Sequence[float]], period: int) -> np.ndarray:
    """(sweeps,) events, sum over populations and over the steps 1, 2, ... of each sweep.

    Args:
        per_step: population -> events a step, the image's among them, from `EventPoint.row`.
        period: time steps of a sweep.
    """
    sent = np.sum([own for name, own in per_step.items() if name != "image"], axis=0)[1:]
    return np.pad(sent, (0, -len(sent) % period)).reshape(-1, period).sum(1)


def threshold_name(threshold: float | None) -> str:
    return "whole states" if threshold is None else f"{threshold:g}"
