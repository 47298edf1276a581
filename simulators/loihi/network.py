"""A program's processes inside a user's own Lava program, run by Lava's own runtime: see docs/lava.md.

Needs no torch. `simulators.open` runs the same processes for evaluation: guarded, and stopped image by image.
"""

from collections.abc import Callable, Sequence

import numpy as np

from mapping.errors import Refusal
from mapping.loihi.integers import ERROR_BITS
from mapping.loihi.plasticity import SIGNS, Learning, learned
from mapping.loihi.program import LoihiProgram
from simulators.loihi.arithmetic import LavaProgram, arithmetic_of, encode
from simulators.loihi.clock import Clock
from simulators.loihi.layout import RING, layout_of
from simulators.loihi.plastic import Plastic, plastic_layout, plastic_of
from simulators.loihi.shared_arrays import SharedArrays
from simulators.loihi.wiring import run_config, wire


class LavaNetwork:
    """Connected Lava processes of a program.

    Args:
        program: compiled for `lava` or `lava:float`.
        batch: images that the processes hold at once: the leading dimension of every port.
        learning: how the processes learn, from `mapping.loihi.plasticity.plan_learning`; None where they do not.

    Attributes:
        image: the process that sends the image.
        readout: the process of the logits.
        populations: processes by their names in the network.
        couplings: processes by their names in the network.
        logits: OutPort of (batch, K): at every step the logits of the top states as the step begins; integers count
            in 2^-`logit_bits`.
        run_config: Lava's configuration for the program's number format and for the model of its connections.
    """

    def __init__(self, program: LavaProgram, batch: int, learning: Learning | None = None):
        arithmetic = arithmetic_of(program)
        self._program, self._arithmetic, self._learning = program, arithmetic, learning
        layout, plastic = layout_of(program.graph, arithmetic, batch), tuple[Plastic, ...]()
        if learning:
            layout |= plastic_layout(self._learner()[0])
        self._shared_arrays = SharedArrays(layout)
        self._shared_arrays.close_file()
        if learning:
            plastic = plastic_of(*self._learner(), self._shared_arrays)
        self._clock = Clock(self._shared_arrays["clock"])
        wired = wire(program.graph, arithmetic, self._shared_arrays, plastic)
        self.image, self.readout = wired.image, wired.readout
        self.populations = {process.name: process for process in wired.populations}
        self.couplings = {process.name: process for process in wired.couplings}
        self.logits, self.logit_bits = self.readout.logits, arithmetic.logit_bits
        self.run_config = run_config(program, arithmetic)

    def show(self, images: np.ndarray):
        """Write (batch, C, H, W) images in [0, 1]; the next step sees them. States stay: see `begin`.

        Raises:
            Refusal: images of another shape, or out of range.
        """
        pixels = self._shared_arrays["image"]
        if images.shape != pixels.shape or not np.all((images >= 0) & (images <= 1)):
            raise Refusal("images do not fit the processes", where="LavaNetwork.show", got=f"shape {images.shape}",
                          allowed=f"{pixels.shape} within [0, 1]", remedy="normalisation lives in the program")
        pixels[...] = encode(self._program, images)

    def begin(self):
        """From the next step on relax anew: all states zero, time 0."""
        self._start([0] * len(self.populations))

    def learn(self, images: np.ndarray, labels: np.ndarray, run: Callable[[int], object], cooling: int = 0):
        """Show a batch, free and nudged, from which every process learns and writes what it holds.

        Args:
            images: (batch, C, H, W) in [0, 1].
            labels: (batch,) int.
            run: runs Lava for so many time steps.
            cooling: steps of weights are 2^-cooling as large as the learning's.

        Raises:
            Refusal: see `show`; the processes do not learn.
        """
        program, learning = self._learner()
        phases, shared = learning.phases, self._shared_arrays
        self.show(images)
        shared["target"][...] = np.eye(program.graph.classes, dtype=np.int64)[labels] << ERROR_BITS
        self.begin()
        run(phases.free_steps)
        free = self._now()
        for sign in SIGNS:
            shared["beta"][0] = program.integer_beta(sign * phases.beta)
            self._start(free, loss="cross_entropy")
            run(phases.nudged_steps)
            self._start(self._now(), hold=True, learn=sign, cooling=cooling if sign == SIGNS[-1] else None)
            run(1)

    @property
    def learned(self) -> LoihiProgram:
        """The program as it is by now, proven anew.

        Raises:
            Refusal: an accumulator is no longer proven safe; the processes do not learn.
        """
        program, _ = self._learner()
        weights, biases = ([self._shared_arrays[f"{kind}.{n}"] for n in range(len(program.layers) + 1)]
                           for kind in ("weight", "bias"))
        return learned(program, weights, biases)

    def _learner(self) -> tuple[LoihiProgram, Learning]:
        """What learns, and how."""
        if self._learning is None or not isinstance(self._program, LoihiProgram):
            raise Refusal("these processes do not learn", where="LavaNetwork",
                          got="no learning" if self._learning is None else str(self._program.target),
                          allowed="LavaNetwork(program, batch, learning) of a program for lava",
                          remedy="plan it with mapping.loihi.plasticity.plan_learning")
        return self._program, self._learning

    def _start(self, states: Sequence[np.ndarray | int], **phase):
        """A phase from these states; see `Clock.begin`."""
        for n, state in enumerate(states):
            self._shared_arrays[f"history.{n}"][0] = state
            if self._arithmetic.events:
                self._shared_arrays[f"sent.{n}"][0] = state
        self._clock.begin(**phase)

    def _now(self) -> list[np.ndarray]:
        """Integers of each population after the last step."""
        slot = self._clock.now % RING
        return [self._shared_arrays[f"history.{n}"][slot].copy() for n in range(len(self.populations))]

    @property
    def states(self) -> dict[str, np.ndarray]:
        """Each population's states after the last step: (batch, C, H, W), in real units."""
        slot = self._clock.now % RING
        return {name: self._shared_arrays[f"history.{n}"][slot] * np.float32(unit)
                for n, (name, unit) in enumerate(zip(self.populations, self._arithmetic.units))}
