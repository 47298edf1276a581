"""A digital accelerator with few bits, see mapping.digital: gradients pass its roundings straight through."""

from torch import Tensor

from mapping.digital import DigitalProgram
from simulators.loihi.grid import straight_through
from simulators.machine import Cost, InProcessMachine
from simulators.reference import FloatSubstrate, sweep_operations
from simulators.relaxation import Repeat, Residual, Stop


class DigitalSubstrate(FloatSubstrate):
    """Floats that lie on the grids of mapping.digital (1) and (2)."""

    def __init__(self, program: DigitalProgram, device: str):
        plain = FloatSubstrate.of(program.dequantised(), device)
        super().__init__(plain.projections, plain.readout, plain.populations, plain.mean, plain.scale)
        self.program, self.top = program, 2**program.target.activation_bits - 1

    def activate(self, n: int, drive: Tensor) -> Tensor:
        state, span = super().activate(n, drive), self.program.state_ranges[n]
        if not self.program.target.rounds_states:
            return state
        inside = state.clamp(max=span)
        step = span / self.top
        return straight_through((inside / step).round() * step, inside)


class DigitalMachine(InProcessMachine):
    """A program with few bits; a sample on a grid has settled where its states repeat.

    Args:
        program: what to run.
        chip_seed: has no meaning here.
        device: "cpu" or "cuda".
    """

    program: DigitalProgram

    def __init__(self, program: DigitalProgram, chip_seed: int = 0, device: str = "cpu"):
        graph, target = program.graph, program.target
        stop: Stop = Repeat() if target.rounds_states else Residual(graph.tolerance)
        super().__init__(graph, target.shown, DigitalSubstrate(program, device), steps=target.steps or graph.steps,
                         stop=stop)
        self.program = program

    def cost(self) -> Cost:
        sweeps = self.steps if self.graph.has_feedback else 1
        return Cost(float(sweeps * sweep_operations(self.graph)), None, None,
                    "multiply-accumulates of few bits for one image, feedback counted densely, for the longest "
                    "relaxation")
