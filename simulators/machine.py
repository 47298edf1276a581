"""What every machine answers, the digital reference included."""

import math
from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from html import escape
from numbers import Integral
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from mapping.errors import Refusal
from mapping.graph import SCHEDULES, SEQUENTIAL, EPGraph
from mapping.names import in_a_line
from mapping.program import Table
from simulators.relaxation import Decided, Nudge, Relaxed, States, Stop, Substrate, Trace, relax

_ROUNDING = 1e-6   # of the largest state, by which states may leave their range
M = TypeVar("M", bound="Machine")
DECIDED = 50.0   # last changes that a margin outweighs where a class is decided: at rest one in a hundred is another
BOX, ANY = (0.0, 1.0), (float("-inf"), float("inf"))   # values that a machine takes as pixels


@dataclass(frozen=True, eq=False)
class Equilibrium:
    """Where a relaxation ended. A relaxation that did not converge is a result, not an error.

    Attributes:
        states: one (B, C, H, W) tensor a population, real units in [0, its ceiling].
        logits: (B, K).
        residual: (B,), largest state change over the last sweep; on integer machines in units of the layer's scale.
        converged: (B,), bool: residual within the machine's tolerance (a repeated state for integer machines).
        steps: (B,), time steps taken.
    """

    states: tuple[torch.Tensor, ...]
    logits: torch.Tensor
    residual: torch.Tensor
    converged: torch.Tensor
    steps: torch.Tensor

    @property
    def prediction(self) -> torch.Tensor:
        """(B,) class of the largest logit; the first one wins a tie."""
        return self.logits.argmax(1)

    def parts(self, count: int) -> list["Equilibrium"]:
        """The equilibria of so many equal batches that were relaxed as one, in their order."""
        size = len(self.steps) // count
        return [self.at(slice(n * size, (n + 1) * size)) for n in range(count)]

    def at(self, which: slice) -> "Equilibrium":
        """Of some of the images."""
        return Equilibrium(tuple(s[which] for s in self.states), self.logits[which], self.residual[which],
                           self.converged[which], self.steps[which])


@dataclass(frozen=True)
class Cost:
    """Estimate for relaxing one image.

    Attributes:
        operations: multiply-accumulates (or synaptic operations at full activity).
        energy_j: joules, None where no published figure applies.
        latency_s: seconds, alike.
        source: where the figures come from, and their uncertainty.
        energy_range_j: (low, high), None where the source gives one figure only.
        latency_range_s: (low, high), alike.
        area_mm2: silicon, None where no published figure applies.
        area_range_mm2: (low, high), alike.
        neighbour_j: joules by what another machine takes in all for an operation, where the source names one.
    """

    operations: float
    energy_j: float | None
    latency_s: float | None
    source: str
    energy_range_j: tuple[float, float] | None = None
    latency_range_s: tuple[float, float] | None = None
    area_mm2: float | None = None
    area_range_mm2: tuple[float, float] | None = None
    neighbour_j: float | None = None


class Reporting(Protocol):
    """What has a report."""

    def report(self) -> Table: ...


class Machine(ABC):
    """A compiled network that can be asked questions.

    Attributes:
        name: the target it was compiled for, by its label or as a user writes it.
        graph: the network it was compiled from.
        deterministic: the same images give the same bits, whatever the generator.
        differentiable: `relax` carries gradients from the logits to images that require them.
        largest_beta: strongest nudge that the machine takes.
        program: that it runs, where there is more to say of it than its graph.
        chip_seed: which chip it is, where there are chips.
    """

    name: str
    graph: EPGraph
    deterministic: bool = True
    differentiable: bool = True
    largest_beta: float = float("inf")
    program: Reporting | None = None
    chip_seed: int | None = None

    def __repr__(self):
        chip = "" if self.chip_seed is None else f", chip {self.chip_seed}"
        shape = "x".join(map(str, self.graph.image_shape))
        return in_a_line(self, f"{self.name}{chip}: images of {shape}, {self.graph.classes} classes")

    def _repr_html_(self) -> str:
        """What notebooks show: its name, and the report of its program."""
        report = "" if self.program is None else self.program.report()._repr_html_()
        return f"<p>{escape(repr(self))}</p>{report}"

    @property
    def has_feedback(self) -> bool:
        """Whether it relaxes, and so can be nudged and started from given states."""
        return self.graph.has_feedback

    @abstractmethod
    def relax(self, images: Tensor, steps: int | None = None, nudge: Nudge | None = None,
              generator: torch.Generator | None = None, *, states: States | None = None, schedule: str | None = None,
              trace: Trace | None = None) -> Equilibrium:
        """Relax a batch of images.

        Args:
            images: (B, C, H, W), float, in [0, 1].
            steps: time steps; None for the machine's own number. With a number, every step is taken.
            nudge: None for the free phase.
            generator: source of fresh read noise, of which each image meets its own: one that is shown twice in a
                batch is read twice. Ignored by deterministic machines.
            states: where to start, in the form `Equilibrium.states` has; zeros if None.
            schedule: "synchronous" or "alternating"; the checkpoint's own if None.
            trace: called as trace(t, states) after each step t = 1, 2, ..., states in real units.

        Raises:
            Refusal: images of another shape or outside [0, 1], or a phase that cannot be (see `check_phase`).
        """

    @abstractmethod
    def cost(self) -> Cost:
        """Estimated cost of relaxing one image for the machine's own number of steps."""

    def counts(self) -> dict[str, tuple[int, int]]:
        """What the machine's circuit met since it was opened, by name: (how often, out of how many)."""
        return {}

    @property
    def asymmetry(self) -> float | None:
        """||W_f - W_b|| / ||W_f||, the largest of all layers; None where both directions are one array by design."""
        return None

    @property
    def gradient_model(self) -> "Machine":
        """The differentiable machine a white-box attacker would use against this one."""
        return self

    def deciding(self, labels: Tensor | None = None) -> "Machine":
        """This machine for who looks for wrong answers: it may stop once a class is decided, before it is at rest.

        Args:
            labels: (B,) of the one batch that it is asked about: whose answers are others, those are at rest.
        """
        return self

    @property
    def answering(self) -> "Machine":
        """This machine for one who wants logits after a number of steps; states below the top may lag behind theirs."""
        return self

    @property
    def unclipped(self) -> "Machine":
        """This machine for images whose pixels may leave [0, 1].

        Raises:
            Refusal: a machine that stands for hardware, whose inputs end at 0 and 1.
        """
        raise Refusal("pixels outside [0, 1] cannot be shown to this machine", where=self.name,
                      got="an attack that does not clip", allowed="the reference", remedy="use pgd_l2 or pgd_linf")

    def close(self):  # noqa: B027 - most machines hold nothing
        """Give back whatever the machine holds (processes, shared memory)."""

    def __enter__(self: M) -> M:
        return self

    def __exit__(self, *exc):
        self.close()


class InProcessMachine(Machine):
    """A machine whose arithmetic is a `Substrate` in this process.

    Args:
        graph: the network it was compiled from.
        name: the target's name.
        substrate: the arithmetic.
        steps: time steps of a free phase.
        stop: when a sample is done (`Residual`, `Repeat`), or None for a fixed number of steps.

    Attributes:
        pixels: least and largest value of a pixel that is not refused.
        top_only: see `answering`.
    """

    pixels, top_only = BOX, False

    def __init__(self, graph: EPGraph, name: str, substrate: Substrate, *, steps: int, stop: Stop | None = None):
        self.graph, self.name, self.substrate, self.steps, self.stop = graph, name, substrate, steps, stop

    def relax(self, images: Tensor, steps: int | None = None, nudge: Nudge | None = None,
              generator: torch.Generator | None = None, *, states: States | None = None, schedule: str | None = None,
              trace: Trace | None = None) -> Equilibrium:
        """See `Machine.relax`; images of any float type and device are answered on the images' device."""
        check_images(images, self.graph.image_shape, self.pixels)
        check_phase(self.graph, len(images), steps, nudge, states, schedule)
        substrate, asked, hears_all = self.substrate, images.device, steps is None or trace is not None
        differentiating = torch.is_grad_enabled() and images.requires_grad
        stop = self.stop if steps is None and trace is None and not differentiating else None
        with torch.set_grad_enabled(differentiating):
            images = images.to(substrate.mean)
            end = relax(substrate, images, schedule=schedule or self.graph.schedule, steps=steps or self.steps,
                        stop=stop, states=states and tuple(s.to(images) for s in substrate.hold(states)),
                        nudge=nudge and nudge.to(images), generator=generator,
                        trace=trace and (lambda t, states: trace(t, self._real(states, asked))),
                        top_only=self.top_only and not hears_all)
            logits = substrate.logits(end.states[-1], generator)
        return self._equilibrium(end, logits, asked)

    def deciding(self, labels: Tensor | None = None) -> Machine:
        if self.stop is None or isinstance(self.stop, Decided) or not self.has_feedback:
            return self
        hasty = copy(self)
        hasty.stop = Decided(self.stop, self.substrate.logits, DECIDED / self.substrate.state_scale, labels)
        return hasty

    @property
    def answering(self) -> Machine:
        if not self.deterministic:
            return self
        brief = copy(self)
        brief.top_only = True
        return brief

    def with_substrate(self, substrate: Substrate) -> "InProcessMachine":
        """The same machine on other arithmetic."""
        other = copy(self)
        other.substrate = substrate
        return other

    def _real(self, states: States, asked: torch.device) -> States:
        return tuple(s.to(asked) for s in self.substrate.real(states))

    def _equilibrium(self, end: Relaxed, logits: Tensor, asked: torch.device) -> Equilibrium:
        residual = (end.change / self.substrate.state_scale).to(asked)
        return Equilibrium(self._real(end.states, asked), logits.to(asked), residual, residual <= self._tolerance,
                           end.steps.to(asked))

    @property
    def _tolerance(self) -> float:
        """Of the change of a state over the last sweep."""
        return self.stop.tolerance if self.stop else 0.0


def check_images(images: torch.Tensor, shape: tuple[int, int, int], pixels: tuple[float, float] = BOX):
    """Refuse images that are not a float tensor, a batch of `shape` with values within `pixels`; it may be empty."""
    if not isinstance(images, torch.Tensor) or images.layout != torch.strided:
        raise Refusal("images are no plain tensor", where="images", got=type(images).__name__,
                      allowed="a torch.Tensor", remedy="torch.from_numpy makes one of an array")
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(shape):
        raise Refusal("images have the wrong shape", where="images", got=tuple(images.shape),
                      allowed=f"(B, {', '.join(map(str, shape))})", remedy="use the data set the model was trained on")
    if not images.is_floating_point():
        raise Refusal("images are not floats", where="images", got=images.dtype, allowed="float32 or float64",
                      remedy="divide 8-bit images by 255")
    if images.numel():
        low, high = images.detach().aminmax()
        if not (low >= pixels[0] and high <= pixels[1]):
            raise Refusal("images are out of range", where="images", got=f"[{low:.4g}, {high:.4g}]",
                          allowed="[0, 1]", remedy="normalisation lives in the model: give plain images")


def check_phase(graph: EPGraph, batch: int, steps: int | None, nudge: Nudge | None, states: States | None,
                schedule: str | None):
    """Refuse no time steps, an unknown schedule, and a target or states that are not those of the batch's images."""
    def refuse(what: str, got: object, allowed: object):
        raise Refusal(what, where="relaxation", got=got, allowed=allowed, remedy="correct it, or leave it out")

    if steps is not None and not (isinstance(steps, Integral) and steps >= 1):
        refuse("no number of time steps", steps, "1 or more")
    if schedule not in (None, *SCHEDULES) or (schedule == SEQUENTIAL and graph.has_feedback):
        refuse("unknown schedule", repr(schedule), ", ".join(SCHEDULES))
    if not graph.has_feedback and schedule in (None, SEQUENTIAL) and (nudge is not None or states is not None):
        raise Refusal("a feed-forward network is neither nudged nor started from states", where="relaxation",
                      got="one pass with a nudge or states", allowed="images alone",
                      remedy="attack it with bptt@1; nudge an EP network")
    if nudge is not None and tuple(nudge.target.shape) != (batch, graph.classes):
        refuse("targets of the nudge have the wrong shape", tuple(nudge.target.shape), (batch, graph.classes))
    if nudge is not None and not (math.isfinite(nudge.beta) and nudge.target.isfinite().all()):
        refuse("a nudge that is not finite", f"beta {nudge.beta:g}", "a finite strength and finite targets")
    if states is not None:
        shapes, wanted = [tuple(s.shape) for s in states], [(batch, *p.shape) for p in graph.populations]
        if shapes != wanted:
            refuse("states have the wrong shapes", shapes, wanted)
        ceilings = [population.ceiling for population in graph.populations]
        if not all(_in_range(s.detach(), ceiling) for s, ceiling in zip(states, ceilings) if s.numel()):
            top = " or ".join(f"{ceiling:g}" for ceiling in dict.fromkeys(ceilings))
            refuse("states are out of range", f"values outside [0, {top}], or NaN", f"[0, {top}]")


def _in_range(states: torch.Tensor, ceiling: float) -> bool:
    low, high = states.aminmax()
    return bool(low >= -_ROUNDING and high <= ceiling + _ROUNDING * max(1.0, ceiling))
