"""The relaxation: one loop for every in-process machine and for learning.

A time step updates the layers that the schedule makes active, each from the current states:

    g_n = u_n + gamma_{n+1} F_{n+1}(s_{n+1}),    s_n <- activate_n(g_n)           (equations 2, 3 of mapping.graph)

Others see what a layer last sent, which is its state unless the machine holds back small changes (`Substrate.emit`).
Synchronous: every layer at every step. Alternating: layers 1, 3, ... at even t, layers 2, 4, ... at odd t,
so that a sweep is two steps. A coupling's forward drive and winners are read once after its input changed.
Sequential: step t updates layer t alone; nothing feeds back, so that after L steps all is at rest.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from mapping.errors import Refusal
from mapping.graph import SEQUENTIAL, Window, period_of
from mapping.loihi.integers import LOSSES

States = tuple[Tensor, ...]          # (B, C, H, W) of each population
Read = tuple[Tensor, Tensor | None]   # what a coupling drives the layer above with, and the winners of its pool windows
Trace = Callable[[int, States], None]
A = TypeVar("A", bound=Any)           # a tensor; on Lava a numpy array


class Stop(Protocol):
    """When a sample is done.

    Attributes:
        tolerance: of the change of a state over the last sweep, in the substrate's units.
    """

    @property
    def tolerance(self) -> float: ...

    def done(self, change: A, cycle: Callable[[], A], steps_left: int, period: int, top: Any, index: Any) -> A:
        """Which samples are, asked after each sweep.

        Args:
            change: (B,) largest change of a state over the last sweep.
            cycle: gives the same over the last two sweeps.
            steps_left: time steps that may still be taken.
            period: time steps in a sweep.
            top: states of the top layer.
            index: (B,) places of the samples in the batch that was begun with.
        """
        ...


@dataclass(frozen=True, eq=False)
class Nudge:
    """Pull of the top layer towards lower loss: adds beta W_out^T error to its drive, error = -dLoss/dlogits.

        cross_entropy: error = target - softmax(logits)
        margin:        error = onehot(y) - onehot(argmax_{j != y} logits_j),  y = argmax target,
                       for Loss = max_{j != y} logits_j - logits_y: it never saturates

    Args:
        target: (B, K), one-hot rows (with the cross-entropy, any distribution over the K classes).
        beta: strength; negative pushes away.
        loss: "cross_entropy" or "margin".
    """

    target: torch.Tensor
    beta: float
    loss: str = "cross_entropy"

    def __post_init__(self):
        if self.loss not in LOSSES:
            raise Refusal("unknown loss", where="nudge", got=repr(self.loss), allowed=", ".join(LOSSES),
                          remedy="name one of these losses")

    def select(self, keep: Tensor | slice) -> "Nudge":
        """The nudge of some of the samples."""
        return replace(self, target=self.target[keep])

    def to(self, like: torch.Tensor) -> "Nudge":
        """The nudge on the device and in the type of `like`."""
        return replace(self, target=self.target.to(like))

    def error(self, logits: torch.Tensor) -> torch.Tensor:
        """(B, K) -dLoss/dlogits for (B, K) logits; the first of equal runners-up."""
        if self.loss == "cross_entropy":
            return self.target - F.softmax(logits, 1)
        own = one_hot_like(self.target)
        return own - one_hot_like(logits.masked_fill(own.bool(), -torch.inf))


def one_hot_like(scores: torch.Tensor) -> torch.Tensor:
    """(B, K) ones at the largest score of each row (the first of equals), zeros elsewhere, in the type of `scores`."""
    return F.one_hot(scores.argmax(1), scores.shape[1]).to(scores)


class Projection(ABC):
    """A coupling on some machine: the same weights read in two directions.

    Attributes:
        window: how its kernel meets its map.
        feedback_gain: gamma of mapping.graph (2), by which a relaxation multiplies what `backward` gives; at 0 nobody
            asks for it. 1 where a machine's own arithmetic has it in.
    """

    window: Window
    feedback_gain: float = 1.0

    @abstractmethod
    def forward(self, s_pre: Tensor, generator: torch.Generator | None = None) -> Read:
        """Drive of the layer above and the winners of its pool windows: (u (B, C, H, W), winners or None)."""

    def drive(self, s_pre: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The drive of `forward` alone, where nothing is fed back and nobody asks for winners."""
        return self.forward(s_pre, generator)[0]

    @abstractmethod
    def backward(self, s_post: Tensor, winners: Tensor | None, generator: torch.Generator | None = None) -> Tensor:
        """Drive of the layer below, (B, C_pre, H_pre, W_pre), from states above and the current winners."""


class Substrate(ABC):
    """The arithmetic of a machine: its projections, its activation, its nudge. States are in its own number format.

    Attributes:
        projections: one `Projection` a coupling; projections[0] reads the image.
        mean: the image's normalisation, (C, 1, 1); its type and device are the substrate's.
        state_scale: changes of states are given in the substrate's format divided by it.
        fresh_input: the image's drive is read again at every step (noisy machines), not once.
    """

    projections: tuple[Projection, ...]
    mean: torch.Tensor
    state_scale: float = 1.0
    fresh_input: bool = False

    def with_projections(self, projections: Iterable[Projection]) -> "Substrate":
        """The same arithmetic on other couplings."""
        other = copy(self)
        other.projections = tuple(projections)
        return other

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """The image as projections[0] takes it."""

    def showing(self, image: Tensor) -> "Substrate":
        """The same arithmetic for a phase in which projections[0] reads nothing but this image, as it is encoded."""
        return self

    @abstractmethod
    def start(self, images: Tensor) -> tuple[torch.Tensor, ...]:
        """States of all layers at t = 0: zeros."""

    def hold(self, states: States) -> States:
        """States in real units as the substrate holds them."""
        return states

    def real(self, states: States) -> States:
        """States in real units; the inverse of `hold`."""
        return states

    @abstractmethod
    def activate(self, n: int, drive: Tensor) -> Tensor:
        """New state of layer n (counted from 0) from its total drive."""

    def move(self, n: int, state: Tensor, drive: Tensor) -> Tensor:
        """New state of layer n from its old one and its total drive: the activation, where neurons have no memory."""
        return self.activate(n, drive)

    def read(self, n: int, below: Tensor, before: Read, t: int, generator: torch.Generator | None = None) -> Read:
        """Forward read of coupling n after step t; `before` is what it gave last, (drive, winners)."""
        return self.projections[n].forward(below, generator)

    def emit(self, n: int, state: Tensor, sent: Tensor) -> Tensor:
        """What the other layers see of layer n from now on, given what they saw before: the state itself.

        Machines whose neurons send changes beyond a threshold hold back the small ones. A phase begins with every
        state sent whole.
        """
        return state

    @abstractmethod
    def pull(self, s_top: Tensor, nudge: Nudge, generator: torch.Generator | None = None) -> Tensor:
        """Drive that a nudge adds to the top layer."""

    @abstractmethod
    def logits(self, s_top: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, K) logits in real units."""


@dataclass(frozen=True)
class Residual:
    """A sample has converged when no state changed by more than `tolerance` over a sweep."""

    tolerance: float

    def done(self, change: A, cycle: Callable[[], A], steps_left: int, period: int, top: Any, index: Any) -> A:
        return change <= self.tolerance


@dataclass(frozen=True)
class Repeat:
    """Integer states: stop on a repeated state, or on a two-cycle where a whole number of cycles is left.

    Either way every step not taken would have led back to the same state: stopping changes no bit.
    """

    tolerance: ClassVar[float] = 0.0

    def done(self, change: A, cycle: Callable[[], A], steps_left: int, period: int, top: Any, index: Any) -> A:
        fixed = change == 0
        return fixed | (cycle() == 0) if steps_left % (2 * period) == 0 else fixed


@dataclass(frozen=True, eq=False)
class Decided:
    """A sample is done by another rule, or is so near its end that its answer will hardly change:

        best logit - second best > factor * largest change of a state over the last sweep

    Whoever wants classes, and neither states nor logits, is spared most steps; near ties take them all.

    Attributes:
        stop: the other rule.
        logits: of the top layer's states, (B, K).
        factor: sweeps' worth of change that the margin must outweigh.
        labels: (B,) answers that samples may be done with by this one, all others by the other rule; None for any.
    """

    stop: Stop
    logits: Callable
    factor: float
    labels: Tensor | None = None

    @property
    def tolerance(self) -> float:
        return self.stop.tolerance

    def done(self, change: A, cycle: Callable[[], A], steps_left: int, period: int, top: Any, index: Any) -> A:
        (best, second), (answers, _) = (pair.unbind(1) for pair in self.logits(top).topk(2, 1))
        decided = best - second > self.factor * change
        if self.labels is not None:
            decided &= answers == self.labels.to(index)[index]
        return decided | self.stop.done(change, cycle, steps_left, period, top, index)


@dataclass(frozen=True, eq=False)
class Relaxed:
    """End of a relaxation, states in the substrate's own format; `change` is the last sweep's, (B,).

    `reads` are the couplings' forward reads of these states, where no sample ended before the others.
    """

    states: tuple[torch.Tensor, ...]
    change: torch.Tensor
    steps: torch.Tensor
    reads: tuple[Read, ...] | None = None


@dataclass(frozen=True, eq=False)
class _Live:
    """The samples still relaxing: place in the batch, input, states, what others see of them, drives and winners."""

    index: torch.Tensor
    image: torch.Tensor
    states: tuple
    sent: tuple
    reads: tuple
    nudge: Nudge | None

    @property
    def seen(self) -> tuple:
        """What decides the next step: states, and what was sent of them where that may differ."""
        return self.states + tuple(sent for s, sent in zip(self.states, self.sent) if sent is not s)

    def select(self, keep: Tensor) -> "_Live":
        def pick(t: Tensor | None) -> Tensor | None:
            return None if t is None else t[keep]

        states = tuple(map(pick, self.states))
        sent = tuple(kept if b is a else pick(b) for kept, a, b in zip(states, self.states, self.sent))
        return _Live(self.index[keep], self.image[keep], states, sent,
                     tuple((pick(u), pick(w)) for u, w in self.reads), self.nudge and self.nudge.select(keep))


def active_layers(schedule: str, t: int, depth: int, until: int | None = None) -> range:
    """Layers (counted from 0) that step t = 0, 1, ... updates; with `until`, those that the top one hears of by then.

    What a layer does takes a step to the layer above.
    """
    period = period_of(schedule, depth)
    active = range(t % period, depth, period)
    return active if until is None else active[sum(n < depth + t - until for n in active):]


def relax(substrate: Substrate, images: Tensor, *, schedule: str, steps: int, stop: Stop | None = None,
          states: States | None = None, nudge: Nudge | None = None, generator: torch.Generator | None = None,
          trace: Trace | None = None, reads: tuple[Read, ...] | None = None, top_only: bool = False) -> Relaxed:
    """Relax a batch, dropping each sample from it once `stop` calls it done.

    Args:
        images: (B, C, H, W) in [0, 1].
        steps: most time steps.
        stop: `Residual`, `Decided`, `Repeat`, or None to take every step (needed under autograd and with a trace).
        states: start, in the substrate's format; `substrate.start` if None.
        reads: the couplings' forward reads at the start, of these images and states, where they are known.
        top_only: the last updates of layers that the top layer no longer hears of are left out; without a `stop`.
    """
    if schedule == SEQUENTIAL:
        return _pass(substrate, images, steps, generator, trace)
    image = substrate.encode(images)
    substrate = substrate if stop else substrate.showing(image)
    live = _begin(substrate, image, substrate.start(images) if states is None else tuple(states), reads, nudge,
                  generator)
    depth, batch, latest = len(substrate.projections), len(images), live.seen
    ended, change = None, images.new_full((batch,), float("inf"))
    period, taken = period_of(schedule, depth), torch.full((batch,), steps, device=images.device)
    for t in range(steps):
        if t % period == 0:
            earlier, latest = latest, live.seen
        live = _step(substrate, live, active_layers(schedule, t, depth, steps if top_only else None), t, generator)
        if trace:
            trace(t + 1, live.states)
        if (t + 1) % period or (stop is None and t + period < steps):
            continue
        moved = _distance(live.seen, latest)
        change = change.index_put((live.index,), moved)
        if stop is None:
            continue
        done = stop.done(moved, partial(_distance, live.seen, earlier), steps - t - 1, period, live.states[-1],
                         live.index)
        if done.any():
            ended, taken[live.index[done]] = _scatter(ended, live, done, batch), t + 1
            live, latest = live.select(~done), tuple(s[~done] for s in latest)
            if not len(live.index):
                break
    if ended is None:
        return Relaxed(live.states, change, taken, live.reads)
    return Relaxed(_scatter(ended, live, slice(None), batch), change, taken)


def _pass(substrate: Substrate, images: Tensor, steps: int, generator: torch.Generator | None,
          trace: Trace | None) -> Relaxed:
    """One pass from the image to the top, in which each coupling is read once."""
    seen, states = substrate.encode(images), list(substrate.start(images))
    for t, projection in enumerate(substrate.projections[:steps]):
        begun, states[t] = states[t], substrate.activate(t, projection.drive(seen, generator))
        seen = substrate.emit(t, states[t], begun)
        if trace:
            trace(t + 1, tuple(states))
    taken = min(steps, len(states))
    left = images.new_full((len(images),), 0.0 if taken == len(states) else float("inf"))
    return Relaxed(tuple(states), left, torch.full_like(left, taken, dtype=torch.int64))


def _begin(substrate: Substrate, image: Tensor, states: States, reads: tuple[Read, ...] | None, nudge: Nudge | None,
           generator: torch.Generator | None) -> _Live:
    """All samples; what is not known of the couplings' reads is read."""
    reads = reads or tuple(projection.forward(below, generator)
                           for projection, below in zip(substrate.projections, (image, *states[:-1])))
    sent = tuple(substrate.emit(n, s, s) for n, s in enumerate(states))
    return _Live(torch.arange(len(image), device=image.device), image, states, sent, reads, nudge)


def _step(substrate: Substrate, live: _Live, active: Collection[int], t: int,
          generator: torch.Generator | None) -> _Live:
    projections, states, sent, reads = substrate.projections, list(live.states), list(live.sent), list(live.reads)
    if substrate.fresh_input and 0 in active and t > 0:
        reads[0] = substrate.read(0, live.image, reads[0], t, generator)
    for n in active:
        drive = reads[n][0]
        if n + 1 < len(projections):
            above = projections[n + 1]
            if above.feedback_gain:
                fed = above.backward(live.sent[n + 1], reads[n + 1][1], generator)
                drive = torch.add(drive, fed, alpha=above.feedback_gain)
        elif live.nudge is not None:
            drive = drive + substrate.pull(live.sent[n], live.nudge, generator)
        states[n] = substrate.move(n, states[n], drive)
        sent[n] = substrate.emit(n, states[n], live.sent[n])
    for n in active:
        if n + 1 < len(projections):
            reads[n + 1] = substrate.read(n + 1, sent[n], reads[n + 1], t, generator)
    return replace(live, states=tuple(states), sent=tuple(sent), reads=tuple(reads))


def _distance(now: States, before: States) -> Tensor:
    """(B,) largest absolute difference between two sets of states, over all layers."""
    with torch.no_grad():
        return torch.stack([_rows((a - b).abs_()).amax(1) for a, b in zip(now, before)]).amax(0)


def _rows(maps: Tensor) -> Tensor:
    """(B, everything else), in the order of memory: channels-last maps are not copied."""
    return (maps if maps.is_contiguous() else maps.movedim(1, -1)).flatten(1)


def _scatter(ended: States | None, live: _Live, which: Tensor | slice, batch: int) -> States:
    """Write the states of the samples `which` to their places in the whole batch."""
    if ended is None:
        ended = tuple(s.new_empty((batch, *s.shape[1:])) for s in live.states)
    for out, s in zip(ended, live.states):
        out[live.index[which]] = s[which]
    return ended
