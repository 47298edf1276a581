"""A Loihi program that learns by equilibrium propagation where it runs: the twin and Lava's processes, bit for bit.

For each batch a free phase, from its end a phase of each nudge, and after each of these one step in which all hold
still and add up what they see (mapping.loihi.plasticity). After the second one they write, and what they wrote is
proven anew before anything runs on it.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from mapping.errors import Refusal
from mapping.loihi.integers import ERROR_BITS, rescale
from mapping.loihi.plasticity import SIGNS, Learning, learned
from mapping.loihi.program import LoihiProgram
from simulators.loihi.lava import LavaMachine
from simulators.loihi.plastic import plastic_layout, plastic_of
from simulators.loihi.shared_arrays import SharedArrays
from simulators.loihi.twin import IntegerSubstrate
from simulators.reference import unpool
from simulators.relaxation import Nudge, States, relax


class Learner(ABC):
    """A program that learns.

    Args:
        program: where it begins.
        learning: how it learns.

    Attributes:
        program: as it is now, proven.
        writes: changes of a weight so far, each time it was written.
    """

    def __init__(self, program: LoihiProgram, learning: Learning):
        self.program, self.learning, self.writes = program, learning, 0

    def learn(self, images: Tensor, labels: Tensor, cooling: int = 0):
        """Learn one batch.

        Args:
            images: (B, C, H, W) in [0, 1], B the learning's batch.
            labels: (B,).
            cooling: steps are 2^-cooling as large as the learning's.

        Raises:
            Refusal: another number of images; what was learned is no longer proven, see `learned`.
        """
        batch = self.learning.phases.batch
        if len(images) != batch:
            raise Refusal("not a whole batch", where="learn, images", got=len(images), allowed=batch,
                          remedy="leave out the images that fill none")
        before = self.program
        self._learn(images, F.one_hot(labels, self.program.graph.classes).float(), cooling)
        self.writes += sum(int((old.weight != new.weight).sum()) for old, new in zip(
            (*before.layers, before.readout), (*self.program.layers, self.program.readout)))

    @abstractmethod
    def _learn(self, images: Tensor, target: Tensor, cooling: int):
        """All phases of a batch."""

    @abstractmethod
    def close(self):
        """End what runs."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class TwinLearner(Learner):
    """In this process, in torch: products of whole batches; writing is the processes' own."""

    def __init__(self, program: LoihiProgram, learning: Learning):
        super().__init__(program, learning)
        self._arrays = SharedArrays(plastic_layout(program))
        self._arrays.close_file()
        self._plastic = plastic_of(program, learning, self._arrays)

    def close(self):
        """Nothing runs."""

    @torch.no_grad()
    def _learn(self, images: Tensor, target: Tensor, cooling: int):
        phases, schedule = self.learning.phases, self.program.graph.schedule
        substrate = IntegerSubstrate(self.program, "cpu")
        free = relax(substrate, images, schedule=schedule, steps=phases.free_steps)
        for sign in SIGNS:
            nudge = Nudge(target, sign * phases.beta)
            end = relax(substrate, images, schedule=schedule, steps=phases.nudged_steps, states=free.states,
                        nudge=nudge)
            self._see(substrate, substrate.encode(images), end.states, target, sign)
        for own in self._plastic:
            own.weight.write(cooling)
            own.bias.write(cooling)
        self.program = learned(self.program, *zip(*((own.weight.value, own.bias.value) for own in self._plastic)))

    def _see(self, substrate: IntegerSubstrate, image: Tensor, states: States, target: Tensor, sign: int):
        """Equations (21) and (22) of mapping.loihi.plasticity."""
        *layers, readout = self._plastic
        for own, projection, below, above in zip(layers, substrate.projections, (image, *states[:-1]), states):
            window, rule = projection.window, own.rule
            spread = unpool(_trace(above, rule.after), projection.forward(below)[1], window.unpooled)
            shape = (spread.shape[1], below.shape[1], *window.kernel)
            products = conv2d_weight(_trace(below, rule.before), shape, spread, window.stride, window.padding)
            own.weight.add(products.long().numpy(), sign)
            own.bias.add(_trace(above, rule.after).sum((0, 2, 3)).long().numpy(), sign)
        error = substrate.error(substrate.integer_logits(states[-1]), (target * 2**ERROR_BITS).long())
        readout.see_errors(states[-1].numpy(), error.numpy())


class LavaLearner(Learner):
    """On real Lava processes, each of which adds up and writes its own; the host shows images, labels and phases.

    Raises:
        Refusal: connections in several processes (`model=structural`), of which none sees both its ends.
    """

    def __init__(self, program: LoihiProgram, learning: Learning):
        super().__init__(program, learning)
        if program.target.model != "behavioural":
            raise Refusal("these processes cannot learn", where=str(program.target), got=program.target.model,
                          allowed="model=behavioural", remedy="leave model out")
        self._machine = LavaMachine(program, learning.phases.batch, learning)

    def close(self):
        self._machine.close()

    def _learn(self, images: Tensor, target: Tensor, cooling: int):
        phases = self.learning.phases
        free = self._machine.run_phase(images, phases.free_steps)
        for sign in SIGNS:
            end = self._machine.run_phase(images, phases.nudged_steps, Nudge(target, sign * phases.beta), free)
            self._machine.teach(end, sign, cooling if sign == SIGNS[-1] else None)
        shared = self._machine.shared_arrays
        depth = len(self.program.graph.couplings) + 1
        self.program = learned(self.program, [shared[f"weight.{n}"] for n in range(depth)],
                               [shared[f"bias.{n}"] for n in range(depth)])


def _trace(state: Tensor, shift: int) -> Tensor:
    """x of (21), float64."""
    return rescale(state.long(), shift).double()
