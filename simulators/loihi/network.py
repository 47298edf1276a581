"""A program's processes inside a user's own Lava program, run by Lava's own runtime: see docs/lava.md.

Needs no torch. `simulators.open` runs the same processes for evaluation: guarded, and stopped image by image.
"""

import numpy as np

from mapping.errors import Refusal
from simulators.loihi.arithmetic import LavaProgram, arithmetic_of, encode
from simulators.loihi.clock import Clock
from simulators.loihi.layout import RING, layout_of
from simulators.loihi.shared_arrays import SharedArrays
from simulators.loihi.wiring import run_config, wire


class LavaNetwork:
    """Connected Lava processes of a program.

    Args:
        program: compiled for `lava` or `lava:float`.
        batch: images that the processes hold at once: the leading dimension of every port.

    Attributes:
        image: the process that sends the image.
        readout: the process of the logits.
        populations: processes by their names in the network.
        couplings: processes by their names in the network.
        logits: OutPort of (batch, K): at every step the logits of the top states as the step begins; integers count
            in 2^-`logit_bits`.
        run_config: Lava's configuration for the program's number format and for the model of its connections.
    """

    def __init__(self, program: LavaProgram, batch: int):
        arithmetic = arithmetic_of(program)
        self._program, self._arithmetic = program, arithmetic
        self._shared_arrays = SharedArrays(layout_of(program.graph, arithmetic, batch))
        self._shared_arrays.close_file()
        self._clock, wired = Clock(self._shared_arrays["clock"]), wire(program.graph, arithmetic, self._shared_arrays)
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
        for n in range(len(self.populations)):
            self._shared_arrays[f"history.{n}"][0] = 0
            if self._arithmetic.events:
                self._shared_arrays[f"sent.{n}"][0] = 0
        self._clock.begin()

    @property
    def states(self) -> dict[str, np.ndarray]:
        """Each population's states after the last step: (batch, C, H, W), in real units."""
        slot = self._clock.now % RING
        return {name: self._shared_arrays[f"history.{n}"][slot] * np.float32(unit)
                for n, (name, unit) in enumerate(zip(self.populations, self._arithmetic.units))}
