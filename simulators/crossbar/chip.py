"""The crossbar as a machine: programmed arrays, their converters, and the digital neurons between them."""

import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from mapping.crossbar.chips import ARRAYS
from mapping.crossbar.encoding import owners
from mapping.crossbar.program import NOISY_STEPS, CrossbarLayer, CrossbarProgram
from mapping.crossbar.ranges import Span
from mapping.crossbar.target import CrossbarTarget
from mapping.graph import Population
from mapping.program import Table
from simulators.crossbar.array import Array
from simulators.crossbar.cost import relaxation_cost
from simulators.crossbar.periphery import Converter, OutputNoise, Saturation
from simulators.crossbar.programmed import ProgrammedChip, program_chip
from simulators.crossbar.programming import seeded
from simulators.crossbar.projection import Convert, CrossbarProjection, Periphery
from simulators.crossbar.quiet import QuietProjection
from simulators.machine import Cost, Equilibrium, InProcessMachine, Machine
from simulators.reference import FloatSubstrate
from simulators.relaxation import Nudge, Read, Residual, States, Trace


class FlipCount:
    """How often a layer's pool winners changed between two reads, counted since the machine was opened."""

    def __init__(self):
        self.flips: int | Tensor = 0   # counted on the machine's device
        self.windows = 0

    def add(self, now: Tensor, before: Tensor):
        self.flips += (now != before).sum()
        self.windows += now.numel()

    @property
    def fraction(self) -> float:
        return float(self.flips) / self.windows if self.windows else 0.0


class CrossbarSubstrate(FloatSubstrate):
    """Digital neurons between analog projections: the readout's array is read forward for logits, backward for a nudge.

    Args:
        fresh_input: the image is read again at every step.
        dt: share of the way to its new value that a state takes in a step, s <- s + dt (clamp(slope g) - s).
        winners_held: steps after which pools keep their winners, None to find them anew at every read.
        others: as for `FloatSubstrate`, the projections and the readout being `CrossbarProjection`s.
    """

    projections: tuple[CrossbarProjection, ...]
    readout: CrossbarProjection

    def __init__(self, projections: Iterable[CrossbarProjection], readout: CrossbarProjection,
                 populations: Iterable[Population], mean: Tensor, scale: Tensor, *, fresh_input: bool,
                 dt: float = 1.0, winners_held: int | None = None):
        super().__init__(projections, readout, populations, mean, scale)
        self.fresh_input, self.dt, self.winners_held = fresh_input, dt, winners_held
        self.flips = [FlipCount() for _ in self.projections]

    def showing(self, image: Tensor) -> "CrossbarSubstrate":
        """See `Substrate.showing`: what the lines sense of the image before their noise is always the same."""
        if not self.fresh_input or image.requires_grad:
            return self
        other = copy(self)
        other.projections = (self.projections[0].driven_by(image), *self.projections[1:])
        return other

    def quiet(self) -> "CrossbarSubstrate":
        """The same on average, see `simulators.crossbar.quiet`; its flips are counted apart."""
        *projections, readout = map(QuietProjection, (*self.projections, self.readout))
        return CrossbarSubstrate(projections, readout, self.populations, self.mean, self.scale, fresh_input=False,
                                 dt=self.dt, winners_held=self.winners_held)

    def move(self, n: int, state: Tensor, drive: Tensor) -> Tensor:
        wanted = self.activate(n, drive)
        return wanted if self.dt == 1 else state + self.dt * (wanted - state)

    def read(self, n: int, below: Tensor, before: Read, t: int, generator: torch.Generator | None = None) -> Read:
        if self.winners_held is not None and t >= self.winners_held:
            return self.projections[n].forward_at(below, before[1], generator)
        value, winners = self.projections[n].forward(below, generator)
        if winners is not None and before[1] is not None:
            self.flips[n].add(winners, before[1])
        return value, winners

    def pull(self, s_top: Tensor, nudge: Nudge, generator: torch.Generator | None = None) -> Tensor:
        error = nudge.error(self.logits(s_top, generator))
        return nudge.beta * self.readout.backward(error[:, :, None, None], None, generator)

    def logits(self, s_top: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.readout.forward(s_top, generator)[0].flatten(1)


class CrossbarMachine(InProcessMachine):
    """A program on one analog chip.

    With fresh read noise it takes a fixed number of steps, since its states never rest; without, it stops each sample
    at the graph's residual. Read noise is drawn from the generator given to `relax`; without one, from a generator
    seeded anew at every call by the chip seed, so that two such calls give the same bits.

    Args:
        program: what to run.
        chip_seed: which chip was programmed.
        device: "cpu" or "cuda".
        chip: already programmed with this program, in place of `chip_seed`; see `program_chip`.
    """

    substrate: CrossbarSubstrate
    program: CrossbarProgram
    chip_seed: int

    def __init__(self, program: CrossbarProgram, chip_seed: int = 0, device: str | torch.device = "cpu",
                 chip: ProgrammedChip | None = None):
        target, graph = program.target, program.graph
        self.chip = chip or program_chip(program, chip_seed, device)
        self.program, self.chip_seed, self.device = program, self.chip.seed, torch.device(device)
        projections = _projections(program, self.chip, device)
        self.deterministic = all(projection.is_quiet for projection in projections)
        substrate = CrossbarSubstrate(
            projections[:-1], projections[-1], graph.populations,
            torch.tensor(graph.mean, device=device), torch.tensor(graph.scale, device=device),
            fresh_input=not self.deterministic and target.dynamics.input_read == "every", dt=target.dynamics.dt,
            winners_held=target.dynamics.winners_held)
        own_steps = graph.steps if self.deterministic else NOISY_STEPS
        steps = target.dynamics.steps or own_steps if graph.has_feedback else program.steps
        super().__init__(graph, target.shown, substrate, steps=steps,
                         stop=Residual(graph.tolerance) if self.deterministic else None)

    def relax(self, images: Tensor, steps: int | None = None, nudge: Nudge | None = None,
              generator: torch.Generator | None = None, *, states: States | None = None, schedule: str | None = None,
              trace: Trace | None = None) -> Equilibrium:
        generator = None if self.deterministic else read_noise(generator, self.chip_seed, self.device)
        averaged = self.program.target.dynamics.readout_steps
        if averaged == 1:
            return super().relax(images, steps, nudge, generator, states=states, schedule=schedule, trace=trace)
        last, logits = steps or self.steps, []

        def read_out(t: int, states: States):
            if trace:
                trace(t, states)
            if last - averaged < t < last:
                logits.append(self.substrate.logits(states[-1].to(self.device), generator))

        end = super().relax(images, steps, nudge, generator, states=states, schedule=schedule, trace=read_out)
        return replace(end, logits=torch.stack([*(x.to(end.logits) for x in logits), end.logits]).mean(0))

    def report(self) -> Table:
        """Layer by layer, since the machine was opened: symmetry, pool winners that changed, converters that clipped.
        """
        clipped: dict[str, list[str]] = {}
        rows: list[tuple[str, ...]] = []
        for s in self.saturation():
            clipped.setdefault(s.layer, []).append(f"{s.fraction:.2%}")
        for layer, projection, flips in zip(self.program.layers, self.projections, (*self.flip_rates(), 0.0)):
            shares = clipped.get(layer.name, [])
            rows.append((layer.name, "none" if projection.asymmetry is None else f"{projection.asymmetry:.2%}",
                         f"{flips:.2%}", *shares, *["none"] * (4 - len(shares))))
        columns = ("layer", "|W_f - W_b| / |W_f|", "winners flipped", "DAC forward", "ADC forward", "DAC backward",
                   "ADC backward")
        return Table(f"{self.name}, chip {self.chip_seed}", columns, tuple(rows),
                     ("flipped: of pool windows, from one read to the next; converters: share of codes clipped",))

    def counts(self) -> dict[str, tuple[int, int]]:
        """See `Machine.counts`: clipped conversions, and pool winners that changed from one read to the next."""
        clipped, flips = self.saturation(), self.substrate.flips
        return {"saturation": (sum(s.clipped for s in clipped), sum(s.conversions for s in clipped)),
                "winner_flips": (int(sum(f.flips for f in flips)), sum(f.windows for f in flips))}

    @cached_property
    def gradient_model(self) -> Machine:
        """See `Machine.gradient_model`: of a noisy chip what it is on average, where its lines sense products alone."""
        if self.deterministic or not all(projection.is_linear for projection in self.projections):
            return self
        quiet = self.with_substrate(self.substrate.quiet())
        quiet.deterministic = True
        return quiet

    @property
    def asymmetry(self) -> float | None:
        return max((a for projection in self.projections if (a := projection.asymmetry) is not None), default=None)

    def flip_rates(self) -> tuple[float, ...]:
        """For each coupling, the share of pool windows whose winner changed from one read to the next."""
        return tuple(count.fraction for count in self.substrate.flips)

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The cells that forward reads sense, layer by layer, the readout last."""
        return tuple(projection.forward_array for projection in self.projections)

    @property
    def projections(self) -> tuple[CrossbarProjection, ...]:
        """Both directions of every layer, the readout last."""
        return (*self.substrate.projections, self.substrate.readout)

    def saturation(self) -> tuple[Saturation, ...]:
        """Clipped conversions since the machine was opened; empty without converters."""
        rows = []
        for layer, projection in zip(self.program.layers, self.projections):
            if layer.spans:
                rows += conversions(layer.name, "forward", projection.forward_periphery)
                if projection.is_read_backward:
                    rows += conversions(layer.name, "backward", projection.backward_periphery)
        return tuple(rows)

    def cost(self) -> Cost:
        return relaxation_cost(self.program)


def read_noise(generator: torch.Generator | None, chip_seed: int, device: torch.device) -> torch.Generator:
    """The generator of read noise on a machine's device: of the one given, or where there is none, of the chip."""
    generator = seeded(chip_seed, "reads") if generator is None else generator
    if generator.device.type == device.type:
        return generator
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return torch.Generator(device).manual_seed(seed)


def _projections(program: CrossbarProgram, chip: ProgrammedChip,
                 device: str | torch.device) -> list[CrossbarProjection]:
    """Every layer's, the readout's last. What has a sign is the image, and the error that a nudge sends backward."""
    couplings = (*program.graph.couplings, program.graph.readout)
    biases = chip.biases or [torch.tensor(c.bias, device=device) for c in couplings]
    first, last, two_phase = program.layers[0], program.layers[-1], program.target.converters.two_phase
    made = []
    for coupling, layer, pair, bias in zip(couplings, program.layers, chip.arrays, biases):
        twice = (two_phase and layer is first, two_phase and layer is last)
        peripheries = peripheries_of(layer, program.target, pair, twice, chip.seed, device)
        scale = torch.tensor(layer.stored.column_scale, device=device)
        made.append(CrossbarProjection(pair, peripheries, bias, scale, coupling.window, coupling.feedback_gain))
    return made


def peripheries_of(layer: CrossbarLayer, target: CrossbarTarget, pair: tuple[Array, ...], twice: tuple[bool, bool],
                   chip_seed: int, device: str | torch.device) -> list[Periphery]:
    """What stands between the digital side and the lines of each direction that is read.

    Args:
        twice: whether drives of a direction are read in two phases.
        chip_seed: that errors of outputs are drawn from.
    """
    if layer.spans is None:
        lines = pair[0].forward_lines, pair[-1].backward_lines
        return [Periphery(_wire, (_wire,) * len(own), phases) for own, phases, _ in zip(lines, twice, pair)]
    scales = _full_scales(layer, layer.spans)
    frozen = [seeded(chip_seed, layer.name, "outputs", name) for name in ARRAYS]
    return [_converted(span, own, target, phases, generator, device)
            for span, own, phases, generator in zip(layer.spans, scales, twice, frozen)]


def _full_scales(layer: CrossbarLayer, spans: tuple[Span, ...]) -> list[list[Tensor]]:
    """Of the ADCs of each direction; a range a tile is spread to a range a channel, or a row."""
    places = math.prod(layer.stored.g_us.shape[4:])
    column_tile, row_tile = (torch.tensor(owners(cuts)) for cuts in (layer.column_cuts, layer.row_cuts))
    forward, *backward = (torch.tensor(span.adc) for span in spans)
    channels = [row[column_tile][:, None, None] for row in forward.flatten(0, 1)]
    rows = [[column[row_tile].repeat(places) for column in adc.mT.flatten(0, 1)] for adc in backward]
    return [channels, *rows]


def _wire(values: Tensor) -> Tensor:
    """Takes the place of a converter where there is none."""
    return values


def _converted(span: Span, full_scales: Sequence[Tensor], target: CrossbarTarget, two_phase: bool,
               frozen: torch.Generator, device: str | torch.device) -> Periphery:
    own, errors = target.converters, target.output_errors
    dac = Converter(torch.tensor(span.dac, device=device), own.dac_bits, span.signed and not own.two_phase)
    floor = own.adc_rounding == "floor"
    adcs = tuple(Converter(scale.to(device), own.adc_bits, signed=True, floor=floor) for scale in full_scales)
    noises = tuple(OutputNoise.of(scale.to(device), errors, frozen) for scale in full_scales) if any(errors) else ()
    return Periphery(dac, adcs, two_phase, noises, own.planes(span.signed))


def conversions(layer: str, direction: str, periphery: Periphery) -> list[Saturation]:
    """Of a layer's DACs and ADCs in one direction, how many clipped."""
    def total(name: str, converters: Sequence[Convert]) -> Saturation:
        known = [c for c in converters if isinstance(c, Converter)]
        return Saturation(layer, name, direction, int(sum(c.clipped for c in known)), sum(c.conversions for c in known))

    return [total("dac", (periphery.dac,)), total("adc", periphery.adcs)]
