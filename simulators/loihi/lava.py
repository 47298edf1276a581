"""A program on Lava: the Machine whose relaxation runs on Lava's processes, one time step a Lava step.

The processes remember their last states, so that the host can look after a run of up to 16 steps and stop each
sample by the same rule, at the same step, as simulators.relaxation does.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mapping.errors import Refusal
from mapping.loihi.plasticity import Learning
from mapping.loihi.program import LoihiProgram
from simulators.loihi.arithmetic import LavaProgram
from simulators.loihi.layout import RING
from simulators.loihi.session import LavaSession
from simulators.loihi.shared_arrays import SharedArrays
from simulators.loihi.twin import free_steps, integer_nudge, twin_of
from simulators.machine import Cost, Equilibrium, InProcessMachine, Machine, check_images, check_phase
from simulators.reference import ReferenceMachine
from simulators.relaxation import Nudge, Repeat, Residual, States, Stop, Trace

BATCH = 32
_OPERATIONS_A_SECOND = 1e7   # far below what one core does: a deadline, not an estimate
_STEP_DEADLINE_S = 0.5
_RUN_DEADLINE_S = 30.0


Arrays = Sequence[np.ndarray]   # of all layers


class LavaMachine(Machine):
    """A LoihiProgram (fixed point) or a FloatProgram (floating point) on real Lava processes.

    Args:
        program: compiled for "lava" or "lava:float".
        batch: images that the processes hold at once; larger batches are split, smaller ones padded.
        learning: how its integers learn, see `simulators.loihi.learner`.

    Raises:
        Refusal: Lava is not installed.
    """

    differentiable = False
    program: LavaProgram

    def __init__(self, program: LavaProgram, batch: int = BATCH, learning: Learning | None = None):
        self.graph, self.name, self.program = program.graph, program.target.shown, program
        self.steps = free_steps(program)
        self._integers = program if isinstance(program, LoihiProgram) else None
        self._model: InProcessMachine = twin_of(self._integers) if self._integers else ReferenceMachine(
            program.graph, steps=self.steps)
        self.largest_beta = self._model.largest_beta
        self._stop = Repeat() if self._integers else Residual(program.graph.tolerance)
        self._session, self.batch = LavaSession(program, batch, learning), batch
        self._rings = ("history", "sent") if "sent.0" in self._session.shared_arrays else ("history",)

    @property
    def gradient_model(self) -> Machine:
        return self._model

    def cost(self) -> Cost:
        return self._model.cost()

    def close(self):
        self._session.close()

    def relax(self, images: Tensor, steps: int | None = None, nudge: Nudge | None = None,
              generator: torch.Generator | None = None, *, states: States | None = None, schedule: str | None = None,
              trace: Trace | None = None) -> Equilibrium:
        """See `Machine.relax`; the schedule is wired into the processes, and no gradient is carried."""
        check_images(images, self.graph.image_shape)
        check_phase(self.graph, len(images), steps, nudge, states, schedule)
        self._check_schedule(schedule)
        if states is not None:
            states = tuple(s.detach().cpu() for s in self._model.substrate.hold(states))
        stop = self._stop if steps is None and trace is None and self.has_feedback else None
        taken = (steps or self.steps) if self.has_feedback else min(steps or self.steps, self.graph.period)
        parts: list[Equilibrium] = []
        traces: list[list[States]] = []
        for first in range(0, max(1, len(images)), self.batch):
            part = slice(first, first + self.batch)
            record: list[States] = []
            parts.append(self._relax(images[part].detach().cpu(), taken, nudge and nudge.select(part),
                                     states and tuple(s[part] for s in states), stop, record if trace else None))
            traces.append(record)
        if trace:
            for t, recorded in enumerate(zip(*traces), 1):
                trace(t, tuple(torch.cat(layer).to(images.device) for layer in zip(*recorded)))
        return _join(parts, images.device)

    @property
    def shared_arrays(self) -> SharedArrays:
        """What host and processes share."""
        return self._session.shared_arrays

    def run_phase(self, images: Tensor, steps: int, nudge: Nudge | None = None,
                  states: Arrays | None = None) -> list[np.ndarray]:
        """Every step of a phase of a whole batch; the integer states (B, C, H, W) in which it ends.

        Args:
            images: (B, C, H, W) in [0, 1].
            steps: of time.
            nudge: of the phase.
            states: integers where it begins; zeros if None.
        """
        self._load_inputs(images, nudge)
        self._begin(states or [np.zeros((len(images), *p.shape)) for p in self.graph.populations],
                    loss=nudge and nudge.loss)
        for done in range(0, steps, RING - 1):
            self._run(min(RING - 1, steps - done))
        return self._seen(steps, len(images))[:len(self.graph.populations)]

    def teach(self, states: Arrays, sign: int, cooling: int | None):
        """One step in which the processes hold these states and add up what they see.

        Args:
            states: in which a nudged phase ended.
            sign: of its nudge; its target still stands.
            cooling: how they write after the batch's last phase, see `Accumulator.write`; None after others.
        """
        self._begin(states, hold=True, learn=sign, cooling=cooling)
        self._run(1)

    def _check_schedule(self, schedule: str | None):
        if schedule not in (None, self.graph.schedule):
            raise Refusal("the processes run another schedule", where=self.name, got=schedule,
                          allowed=self.graph.schedule, remedy="compile the network with this schedule")

    def _relax(self, images: Tensor, steps: int, nudge: Nudge | None, states: States | None, stop: Stop | None,
               record: list[States] | None) -> Equilibrium:
        """Relax at most `batch` images."""
        self._load_inputs(images, nudge)
        start = [np.zeros((len(images), *p.shape)) for p in self.graph.populations] if states is None else [
            s.numpy() for s in states]
        watch = _Watch(start * len(self._rings), len(start), steps, self.graph.period, stop)
        self._begin(start, loss=nudge and nudge.loss)
        done = 0
        while done < steps and not (stop and watch.all_done):
            chunk = min(RING - 1, steps - done)
            self._run(chunk)
            for t in range(done + 1, done + chunk + 1):
                now = self._seen(t, len(images))
                if record is not None:
                    record.append(self._real(now[:len(start)]))
                watch.look(t, now)
            done += chunk
        if not self.has_feedback:
            watch.change[:] = 0.0 if steps == self.graph.period else np.inf   # all is at rest after a pass
        return self._equilibrium(watch)

    def _load_inputs(self, images: Tensor, nudge: Nudge | None):
        shared_arrays, n = self._session.shared_arrays, len(images)
        with torch.no_grad():
            shared_arrays["image"][:n] = self._model.substrate.encode(images.to(self._model.substrate.mean)).numpy()
        shared_arrays["image"][n:] = 0
        shared_arrays["target"][...] = 0
        if nudge is not None:
            target, beta = integer_nudge(self._integers, nudge) if self._integers else (nudge.target, nudge.beta)
            shared_arrays["target"][:n], shared_arrays["beta"][0] = target.cpu().numpy(), beta

    def _begin(self, states: Arrays, **phase):
        """Write states to time 0 of a new phase (see `Clock.begin`)."""
        for ring in self._rings:
            for n, s in enumerate(states):
                slot = self._session.shared_arrays[f"{ring}.{n}"][0]
                slot[:len(s)], slot[len(s):] = s, 0
        self._session.clock.begin(**phase)

    def _run(self, steps: int):
        work = self._model.cost().operations / self._model.steps * self.batch / _OPERATIONS_A_SECOND
        self._session.run(steps, _RUN_DEADLINE_S + steps * (_STEP_DEADLINE_S + work))

    def _seen(self, t: int, n: int) -> list[np.ndarray]:
        """Copies of all layers' states at time t of the phase and, where changes are sent, of what was sent of them."""
        layers = range(len(self.graph.populations))
        shared = self._session.shared_arrays
        return [shared[f"{ring}.{layer}"][t % RING, :n].copy() for ring in self._rings for layer in layers]

    def _equilibrium(self, watch: "_Watch") -> Equilibrium:
        """Logits of the final states from the readout process: one more step in which populations hold."""
        self._begin(watch.ended, hold=True)
        self._run(1)
        logits = self._session.shared_arrays["logits"][:len(watch.steps)].astype(np.float32)
        if self._integers:
            logits = logits * np.float32(2.0**-self._integers.readout.scale)
        residual = torch.from_numpy((watch.change / self._model.substrate.state_scale).astype(np.float32))
        tolerance = self._stop.tolerance if self._stop else 0.0
        return Equilibrium(self._real(watch.ended), torch.from_numpy(logits), residual, residual <= tolerance,
                           torch.from_numpy(watch.steps))

    def _real(self, states: Arrays) -> States:
        return self._model.substrate.real(tuple(torch.from_numpy(s.astype(np.float32)) for s in states))


class _Watch:
    """Applies a stopping rule to a relaxation as it passes, sample by sample, as simulators.relaxation does.

    Args:
        start: what decides the next step (see `LavaMachine._seen`) at time 0; the first `depth` of it are states.

    Attributes:
        ended: states of each sample at its own last step.
        change: (B,), over its last sweep.
        steps: (B,).
    """

    def __init__(self, start: list[np.ndarray], depth: int, steps: int, period: int, stop: Stop | None):
        self._limit, self._period, self._stop = steps, period, stop
        self._earlier = self._latest = start
        self._live = np.ones(len(start[0]), bool)
        self.ended = [s.copy() for s in start[:depth]]
        self.change = np.full(len(self._live), np.inf)
        self.steps = np.full(len(self._live), steps)

    @property
    def all_done(self) -> bool:
        return not self._live.any()

    def look(self, t: int, now: list[np.ndarray]):
        """Take in what `start` held, at time t = 1, 2, ..."""
        live = self._live.copy()
        if t % self._period == 0:
            moved, cycle = _distance(now, self._latest), partial(_distance, now, self._earlier)
            self.change[live] = moved[live]
            self._earlier, self._latest = self._latest, now
            if self._stop is not None:
                done = live & self._stop.done(moved, cycle, self._limit - t, self._period, None, None)
                self.steps[done] = t
                self._live &= ~done
        for kept, s in zip(self.ended, now):
            kept[live] = s[live]


def _distance(now: Arrays, before: Arrays) -> np.ndarray:
    """(B,) largest absolute difference over all layers."""
    return np.max([np.abs(a - b).max((1, 2, 3)) for a, b in zip(now, before)], axis=0)


def _join(parts: list[Equilibrium], device: torch.device) -> Equilibrium:
    """One Equilibrium of several batches."""
    def cat(name: str) -> Tensor:
        return torch.cat([getattr(part, name) for part in parts]).to(device)

    states = tuple(torch.cat(layer).to(device) for layer in zip(*(part.states for part in parts)))
    return Equilibrium(states, *map(cat, ("logits", "residual", "converged", "steps")))
