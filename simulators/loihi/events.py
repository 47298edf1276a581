"""Events of a free relaxation on Loihi and the synaptic operations they cause, counted on the machine's own states.

Whatever a step updates sends once, at its end. Of a layer's units, an event is sent by each

    whose state is not 0,                                      where whole states are sent                    (13)
    whose state left its last message by more than the threshold,         with sigma-delta                    (14)

and by each pixel of the image that is not 0, once, before the first step. An event is one synaptic operation for each
synapse that it reaches, in the layer below only where the coupling's feedback gain is not 0. With a kernel of k x k
places:

    forward:   C_out a place of the kernel at which a unit of the layer above reads it
    feedback:  C_in a place of the kernel, laid on its pool window's winner, that lies on the map below       (15)

Neither counts the zeros around a map, nor units that no pool window covers: they are not built. Where only changes
are sent and a window finds another winner, its unit's last message is withdrawn from the old place and sent to the
new one; both count as feedback.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from mapping.errors import Refusal
from mapping.graph import Coupling
from mapping.kernels import convolve, convolve_transpose
from mapping.loihi.program import LoihiProgram
from simulators.machine import InProcessMachine, Machine
from simulators.relaxation import Substrate, active_layers


@dataclass(frozen=True, eq=False)
class EventCount:
    """What was sent in the relaxation of B images, and what it caused.

    Attributes:
        units: (B, T + 1, L + 1) int64, units that could have sent an event at time t = 0 .. T; sender 0 is the image,
            then the L populations. Zero beyond the time at which an image has come to rest.
        events: units that did.
        forward: synaptic operations in the layer above the sender.
        backward: synaptic operations in the layer below it.
        readout: (B,), synaptic operations of the logits, read once at the end, from whole states.
    """

    units: np.ndarray
    events: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    readout: np.ndarray

    @property
    def operations(self) -> np.ndarray:
        """(B,) synaptic operations of each image."""
        return (self.forward + self.backward).sum((1, 2)) + self.readout

    @property
    def sparsity(self) -> np.ndarray:
        """(B,) part of the populations' units that were updated and sent nothing."""
        return 1 - self.events[:, :, 1:].sum((1, 2)) / self.units[:, :, 1:].sum((1, 2))

    @staticmethod
    def join(parts: list["EventCount"]) -> "EventCount":
        """Counts of several batches as one; the longest relaxation gives T."""
        longest = max(part.units.shape[1] for part in parts)

        def pad(array: np.ndarray) -> np.ndarray:
            missing = longest - array.shape[1] if array.ndim == 3 else 0
            return np.pad(array, [(0, 0), (0, missing), (0, 0)]) if missing else array

        return EventCount(*(np.concatenate([pad(getattr(part, f.name)) for part in parts])
                            for f in fields(EventCount)))


def count_events(machine: Machine, images: Tensor, steps: Tensor | None = None) -> EventCount:
    """Count the events of a free phase from zero states, each image up to the step at which the machine stops it.

    Args:
        machine: one that runs a LoihiProgram in integers, `loihi` or `lava`, with or without a threshold.
        images: (B, C, H, W) in [0, 1].
        steps: (B,), the last step to count of each image; `machine.relax(images).steps` if None.

    Raises:
        Refusal: another machine.
    """
    program, model = machine.program, machine.gradient_model
    if not (isinstance(program, LoihiProgram) and program.target.is_whole and isinstance(model, InProcessMachine)):
        raise Refusal("this machine sends no events", where="events", got=machine.name, allowed="loihi, lava",
                      remedy="count on one of these, with a threshold if you like")
    steps = machine.relax(images).steps if steps is None else steps
    ledger = _Ledger(program, model.substrate, images, steps)
    machine.relax(images, int(steps.max()), trace=ledger.enter)
    return ledger.total()


def full_activity(program: LoihiProgram, steps: int) -> EventCount:
    """The count of one image if every pixel and every unit sent at every update: the most that can happen."""
    couplings = program.graph.couplings
    shape = (1, steps + 1, len(couplings) + 1)
    units, forward, backward = (np.zeros(shape, np.int64) for _ in range(3))
    sizes = [int(np.prod(c.pre)) for c in couplings] + [int(np.prod(couplings[-1].post))]
    above = [int(forward_fanout(c).sum()) * c.pre[0] for c in couplings] + [0]
    below = [0] + [int(_largest_backward(c).sum()) * c.post[0] if gain else 0
                   for c, gain in zip(couplings, program.graph.gains)]
    for t in range(steps + 1):
        senders = [n + 1 for n in active_layers(program.graph.schedule, t - 1, len(couplings))] if t else [0]
        for array, values in ((units, sizes), (forward, above), (backward, below)):
            array[0, t, senders] = np.take(values, senders)
    return EventCount(units, units, forward, backward, np.array([program.readout.weight.size]))


def forward_fanout(coupling: Coupling) -> np.ndarray:
    """(H, W) synapses of a unit to the layer above, at each place of the map that a coupling reads."""
    c_out, _, k_h, k_w = coupling.weight.shape
    above, (h, w), side = np.zeros((1, 1, *coupling.unpooled[1:]), np.int64), coupling.post[1:], coupling.pool
    above[:, :, :h * side, :w * side] = 1
    own, ones = coupling.window, np.ones((1, 1, k_h, k_w), np.int64)
    return c_out * convolve_transpose(above, ones, own.padding, own.stride, own.uncovered)[0, 0]


def backward_fanout(coupling: Coupling) -> np.ndarray:
    """(H', W') synapses of a unit to the layer below, whose winner is at each place of the map before pooling."""
    _, c_in, k_h, k_w = coupling.weight.shape
    below = np.ones((1, 1, *coupling.pre[1:]), np.int64)
    return c_in * convolve(below, np.ones((1, 1, k_h, k_w), np.int64), coupling.padding, coupling.stride)[0, 0]


def _largest_backward(coupling: Coupling) -> np.ndarray:
    """(H, W) of the pooled map: synapses to the layer below through the best placed winner of each window."""
    (h, w), side = coupling.post[1:], coupling.pool
    return backward_fanout(coupling)[:h * side, :w * side].reshape(h, side, w, side).max((1, 3))


class _Ledger:
    """Follows a batch through its time steps and enters what each layer sends.

    `_messages` and `_winners` are what the layers last sent and where their windows' winners are.
    """

    def __init__(self, program: LoihiProgram, substrate: Substrate, images: Tensor, steps: Tensor):
        self._program, self._substrate, self._steps = program, substrate, steps.cpu()
        couplings, device = program.graph.couplings, substrate.mean.device
        shape = (len(images), int(steps.max()) + 1, len(couplings) + 1)
        names = ("units", "events", "forward", "backward")
        self._counts = {name: torch.zeros(shape, dtype=torch.int64) for name in names}
        self._readout = torch.zeros(len(images), dtype=torch.int64)
        self._up = [torch.from_numpy(forward_fanout(c)).to(device) for c in couplings]
        self._backward = [torch.from_numpy(backward_fanout(c)).flatten().to(device) for c in couplings]
        with torch.no_grad():
            images = images.to(substrate.mean)
            image, self._messages = substrate.encode(images), substrate.start(images)
        self._winners = self._find_winners()
        self._enter_sent(0, 0, image != 0)

    def enter(self, t: int, states: Sequence[Tensor]):
        """Take in the states, in real units, at the end of step t = 1, 2, ..."""
        substrate, before, places = self._substrate, self._messages, self._winners
        active = active_layers(self._program.graph.schedule, t - 1, len(before))
        now = substrate.hold(tuple(s.to(m) for s, m in zip(states, before)))
        self._messages = tuple(substrate.emit(n, s, m) if n in active else m
                               for n, (s, m) in enumerate(zip(now, before)))
        self._winners = self._find_winners()
        deltas = self._program.delta_threshold is not None
        for n, (old, new) in enumerate(zip(before, self._messages)):
            sent = new != (old if deltas else 0)
            if n in active:
                self._enter_sent(t, n + 1, sent)
            if self._program.graph.gains[n] and (deltas or n in active):
                arrived = sent * self._backward[n][self._winners[n]]
                if deltas:
                    arrived = self._moved(n, old, new, places[n], arrived)
                self._add("backward", t, n + 1, arrived)
        top = (now[-1] != 0).flatten(1).sum(1).cpu() * self._program.graph.classes
        self._readout = torch.where(self._steps == t, top, self._readout)

    def total(self) -> EventCount:
        """Everything entered."""
        return EventCount(**{name: count.numpy() for name, count in self._counts.items()},
                          readout=self._readout.numpy())

    def _moved(self, n: int, old: Tensor, new: Tensor, place: Tensor, arrived: Tensor) -> Tensor:
        """Backward synaptic operations where a winner that carried a message may have changed its place."""
        fan, winner = self._backward[n], self._winners[n]
        moved = (winner != place) & (old != 0)
        return torch.where(moved, fan[place] + (new != 0) * fan[winner], arrived)

    def _enter_sent(self, t: int, sender: int, sent: Tensor):
        self._add("units", t, sender, torch.ones_like(sent))
        self._add("events", t, sender, sent)
        if sender < len(self._up):
            self._add("forward", t, sender, sent * self._up[sender])

    def _add(self, name: str, t: int, sender: int, values: Tensor):
        """Enter the sum over units for the images that still relax at time t."""
        self._counts[name][:, t, sender] = values.flatten(1).sum(1).cpu() * (t <= self._steps)

    def _find_winners(self) -> list[Tensor]:
        """Flat place of each layer's winners in its map before pooling; a unit's own place where there is no pool."""
        with torch.no_grad():
            winners = [projection.forward(m)[1] if projection.feedback_gain else None
                       for projection, m in zip(self._substrate.projections[1:], self._messages)]
        own = [torch.arange(m[0, 0].numel(), device=m.device).view(m.shape[2:]).expand(m.shape) for m in self._messages]
        return [own[0], *(o if w is None else w for w, o in zip(winners, own[1:]))]
