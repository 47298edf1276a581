"""The crossbar as a machine: programmed arrays, their converters, and the digital neurons between them."""

import torch

from mapping.crossbar import DIRECTIONS, CrossbarLayer, CrossbarProgram
from mapping.graph import Coupling
from mapping.ranges import Span
from mapping.targets import CrossbarTarget
from simulators.crossbar.array import Array, CrossbarArm, Periphery
from simulators.crossbar.cost import relaxation_cost
from simulators.crossbar.devices import DEVICES
from simulators.crossbar.periphery import Converter, Saturation
from simulators.crossbar.programming import program_array, seeded
from simulators.machine import InProcessMachine
from simulators.reference import FloatSubstrate
from simulators.relaxation import Nudge, Residual


class CrossbarSubstrate(FloatSubstrate):
    """Digital neurons between analog arms: the readout's array is read upwards for logits, downwards for a nudge.

    Args:
        fresh_input: the image is read again at every step.
        others: as for `FloatSubstrate`, the arms and the readout being `CrossbarArm`s.
    """

    def __init__(self, arms, readout, slopes, shapes, mean, scale, *, fresh_input: bool):
        super().__init__(arms, readout, slopes, shapes, mean, scale)
        self.fresh_input = fresh_input

    def pull(self, s_top, nudge: Nudge, generator=None):
        error = nudge.error(self.logits(s_top, generator))
        return nudge.beta * self.readout.backward(error[:, :, None, None], None, generator)

    def logits(self, s_top, generator=None):
        return self.readout.forward(s_top, generator)[0].flatten(1)


class CrossbarMachine(InProcessMachine):
    """A program on one analog chip.

    With fresh read noise it takes a fixed number of steps, since its states never rest; without, it stops each sample
    at the graph's residual. Read noise is drawn from the generator given to `relax`; without one, from a generator
    seeded anew at every call by the chip seed, so that two such calls give the same bits.

    Args:
        program: what to run. chip_seed: which chip was programmed. device: "cpu" or "cuda".
    """

    def __init__(self, program: CrossbarProgram, chip_seed: int = 0, device="cpu"):
        target, graph = program.target, program.graph
        self.program, self.chip_seed, self.device = program, chip_seed, torch.device(device)
        self.deterministic = not target.is_noisy
        arms = [_arm(c, layer, target, chip_seed, device)
                for c, layer in zip((*graph.couplings, graph.readout), program.layers)]
        substrate = CrossbarSubstrate(
            arms[:-1], arms[-1], [p.slope for p in graph.populations], [p.shape for p in graph.populations],
            torch.tensor(graph.mean, device=device), torch.tensor(graph.scale, device=device),
            fresh_input=not self.deterministic and target.input_read == "every")
        super().__init__(graph, str(target), substrate, steps=program.steps,
                         stop=Residual(graph.tolerance) if self.deterministic else None)

    def relax(self, images, steps=None, nudge=None, generator=None, *, states=None, schedule=None, trace=None):
        return super().relax(images, steps, nudge, self._reads(generator), states=states, schedule=schedule,
                             trace=trace)

    def _reads(self, generator):
        """The generator of a relaxation's read noise, on the machine's device."""
        if self.deterministic:
            return None
        generator = seeded(self.chip_seed, "reads") if generator is None else generator
        if generator.device.type == self.device.type:
            return generator
        seed = torch.randint(2**62, (), generator=generator, device=generator.device).item()
        return torch.Generator(self.device).manual_seed(seed)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The programmed cells, layer by layer, the readout last."""
        return tuple(arm.array for arm in (*self.substrate.arms, self.substrate.readout))

    def saturation(self) -> tuple[Saturation, ...]:
        """Clipped conversions since the machine was opened; empty without converters."""
        rows = []
        for layer, arm in zip(self.program.layers, (*self.substrate.arms, self.substrate.readout)):
            for direction, periphery in zip(DIRECTIONS, (arm.up, arm.down)):
                rows += _count(layer.name, direction, periphery) if layer.spans else []
        return tuple(rows)

    def cost(self):
        return relaxation_cost(self.program)


def _arm(coupling: Coupling, layer: CrossbarLayer, target: CrossbarTarget, chip_seed: int, device) -> CrossbarArm:
    array = program_array(layer, target, DEVICES[target.device], chip_seed, device)
    places = coupling.weight.shape[2] * coupling.weight.shape[3]
    if layer.spans is None:
        up, down = (Periphery(_wire, (_wire,) * len(cuts)) for cuts in (layer.row_cuts, layer.column_cuts))
    else:
        up_span, down_span = layer.spans
        scales_up = [_per_channel(row, layer.column_cuts)[:, None, None] for row in up_span.adc]
        scales_down = [_per_channel(column, layer.row_cuts).repeat(places) for column in down_span.adc.T]
        up, down = _periphery(up_span, scales_up, target, device), _periphery(down_span, scales_down, target, device)
    return CrossbarArm(array, up, down, torch.tensor(coupling.bias, device=device), coupling.padding, coupling.pool,
                       coupling.unpooled)


def _wire(values):
    """Takes the place of a converter where there is none."""
    return values


def _per_channel(ranges, cuts) -> torch.Tensor:
    """Spread one range a tile to one a channel."""
    return torch.cat([torch.full((last - first,), float(reach)) for reach, (first, last) in zip(ranges, cuts)])


def _periphery(span: Span, full_scales, target: CrossbarTarget, device) -> Periphery:
    dac = Converter(torch.tensor(span.dac, device=device), target.dac_bits, span.signed)
    return Periphery(dac, tuple(Converter(scale.to(device), target.adc_bits, signed=True) for scale in full_scales))


def _count(layer: str, direction: str, periphery: Periphery) -> list[Saturation]:
    def total(name, converters):
        return Saturation(layer, name, direction, int(sum(c.clipped for c in converters)),
                          sum(c.conversions for c in converters))

    return [total("dac", (periphery.dac,)), total("adc", periphery.adcs)]
