"""What cells take by stored rates, for a computer like the one where they were measured.

    p(n) = o + w + k r(n) + 2 r_0(n),   r(n) = i (s + q m n)                                                    (1)

p seconds of a cell of n images: o to open its machine, for the first cell of a task, w to write it, k relaxations r on
its machine and two on the reference. A relaxation is i time steps; s seconds a step, q an operation, of which a step
has m for an image.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from ep_hw.evaluation.cells import Cell, Configuration, missing
from ep_hw.evaluation.envelope import attacks_of
from ep_hw.evaluation.execution import tasks_of
from ep_hw.evaluation.matched_noise import HALVINGS, MOST, StoredNoise, noises_of
from ep_hw.evaluation.plan import Plan, cells_of
from ep_hw.evaluation.stored_attacks import StoredAttack
from ep_hw.evaluation.stored_times import StoredTime, times_of
from ep_hw.threats.threat import CLEAN
from mapping.crossbar.target import CrossbarTarget
from mapping.program import Program
from mapping.targets import REFERENCE
from simulators.module import AnyProgram
from simulators.reference import sweep_operations

SHOWN = "clean and corrupted images"   # and those that an attack made elsewhere: the work of all that only shows some
TIMES = "attack times"
SUCCESS = "adversarial success"
NOISE = "noise of matched accuracy"
USES = 50          # of each weight of a feed-forward network for an image
WRITING_S = 0.02   # to write what a cell found


class Rate(NamedTuple):
    """Seconds on one core of a server of 2023, measured on the packaged networks.

    Attributes:
        open_s: to open a machine.
        step_s: of a time step, whatever the images.
        operation_s: of a multiply-accumulate of `sweep_operations`.
    """

    open_s: float
    step_s: float
    operation_s: float


RATES = {
    "reference": Rate(0.01, 4e-5, 1e-11),
    "feed-forward": Rate(0.01, 1e-3, 3e-11),
    "loihi": Rate(0.01, 1e-4, 2e-11),
    "lava": Rate(3.0, 4e-3, 5e-10),
    "crossbar": Rate(0.05, 1.5e-4, 3e-11),
    "noisy crossbar": Rate(0.05, 3e-4, 6e-11),
    "noisy crossbar with wires": Rate(0.3, 3e-4, 6e-11),
    "crossbar with wires": Rate(0.3, 1.5e-4, 3e-11),
    "crossbar with curves": Rate(0.05, 2e-3, 2e-7),
    "crossbar with curves, driven by pulses": Rate(0.05, 2e-3, 5e-6),
}


class Price(NamedTuple):
    """Seconds: `fixed` whatever the number of images, and `each` for an image; equation (1) of this form."""

    fixed: float
    each: float

    def of(self, images: int) -> float:
        return self.fixed + images * self.each

    def times(self, factor: float) -> "Price":
        return Price(factor * self.fixed, factor * self.each)

    @classmethod
    def sum(cls, prices: Iterable["Price"]) -> "Price":
        fixed, each = zip((0.0, 0.0), *prices)
        return cls(sum(fixed), sum(each))


class Kind(NamedTuple):
    """Cells that are taken to be equally much slower here than by the stored rates."""

    platform: str
    work: str

    def __str__(self) -> str:
        return f"{self.platform} {self.work}"


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """A cell, or what is measured besides, that is to be computed.

    Attributes:
        plan: that it belongs to.
        kind: what it costs like.
        what: itself.
        opens: whether it is the first of its task, which opens the machine; only such are measured.
        price: by the stored rates, equation (1).
    """

    plan: Plan
    kind: Kind
    what: Cell | StoredTime | StoredAttack | StoredNoise
    opens: bool
    price: Price

    @property
    def images(self) -> int:
        return len(self.what.images)


def jobs_of(plan: Plan, folder: Path | None = None, cells: Sequence[Cell] | None = None) -> list[Job]:
    """Every cell of a plan and all that is measured besides, or what `folder` has not got of them.

    Args:
        plan: what is asked.
        folder: of the evaluation; None for one that has nothing.
        cells: those of the plan, where they are known.
    """
    relaxations = {name: _relaxation(program) for name, program in plan.programs.items()}
    cells = cells_of(plan, folder or Path()) if cells is None else cells
    every = [cell for cell in cells if cell.shown or not plan.before]   # a probe brings the others
    return [*_cell_jobs(plan, every if folder is None else missing(every), relaxations),
            *(_time_job(plan, one, relaxations[name])
              for name, one in _times(plan, folder or Path()) if folder is None or not one.done()),
            *(_attack_job(plan, one) for _, tries in attacks_of(plan, folder or Path()) for one in tries
              if folder is None or not one.done()),
            *(_noise_job(plan, one) for one in noises_of(plan, folder or Path()) if folder is None or not one.done())]


def _times(plan: Plan, folder: Path) -> list[tuple[str, StoredTime]]:
    """(machine, attack time) of a plan."""
    if plan.asked.temporal is None:
        return []
    times = times_of(plan.relaxing(), plan.images, plan.asked.temporal, plan.asked.seed, plan.run.device,
                     folder / "temporal")
    return [(name, one) for name, asked in times.items() for one in asked]


def _platform(program: AnyProgram) -> str:
    """What decides the rate of a machine, see `RATES`."""
    target = program.target
    if isinstance(target, CrossbarTarget) and target.settles:
        return f"crossbar with curves{', driven by pulses' * (target.converters.inputs == 'pulses')}"
    if isinstance(target, CrossbarTarget):
        wires = " with wires" if target.array.wire_ohm is not None else ""
        return f"{'noisy ' if target.is_noisy else ''}crossbar{wires}"
    return target.name.partition(":")[0] if isinstance(program, Program) else "feed-forward"


def _rate(program: AnyProgram) -> Rate:
    """The stored one, the reference's for a machine that someone else registered."""
    return RATES.get(_platform(program), RATES[REFERENCE])


def _relaxation(program: AnyProgram) -> Price:
    """r of equation (1)."""
    rate = _rate(program)
    if isinstance(program, Program):
        steps, operations = program.target.steps or program.graph.steps, sweep_operations(program.graph)
    else:
        steps, operations = 1, USES * sum(weights.numel() for weights in program.module.parameters())
    return Price(steps * rate.step_s, steps * operations * rate.operation_s)


def _cell_jobs(plan: Plan, cells: Iterable[Cell], relaxations: Mapping[str, Price]) -> Iterator[Job]:
    """In the order of their tasks."""
    depths: dict[int, list[Cell]] = defaultdict(list)
    for cell in cells:
        depths[cell.configuration.depth].append(cell)
    known: dict[tuple, tuple[Kind, Price]] = {}   # alike for all chips
    for task in (task for own in depths.values() for task in tasks_of(own)):
        for cell in task:
            c, opens = cell.configuration, cell is task[0]
            if (case := (c.machine, c.threat, len(c.joined), opens)) not in known:
                known[case] = _cell_price(plan.programs[c.machine], c, relaxations, opens)
            kind, price = known[case]
            yield Job(plan, kind, cell, opens, price)


def _cell_price(program: AnyProgram, c: Configuration, relaxations: Mapping[str, Price],
                opens: bool) -> tuple[Kind, Price]:
    attacks = c.threat.is_direct and not c.joined
    own = relaxations[c.machine].times(_relaxations(c, program.target.is_noisy))
    return Kind(_platform(program), c.threat.attack.code if attacks else SHOWN), Price.sum(
        [own, relaxations[REFERENCE].times(2), Price(WRITING_S + opens * _rate(program).open_s, 0.0)])


def _relaxations(c: Configuration, noisy: bool) -> float:
    """k of equation (1): a gradient takes about as long as a relaxation, a mean of noisy ones as `eot` of them; what is
    joined shows the images of each.
    """
    reads = c.votes if noisy else 1
    if c.settings is None or not c.threat.is_direct or c.joined:
        return reads * (1 + len(c.joined))
    s = c.settings
    if c.threat.is_black_box:
        return s.queries * (s.average if noisy else 1) + 4 * reads
    draws = [s.eot if noisy and name.startswith("eot@") else 1 for name in s.gradients]
    steps = s.iterations * s.restarts * (draws[0] + sum(draws)) / 2   # all but the first go on in half as many
    return steps + len(s.gradients) * reads + 4 * reads


def _time_job(plan: Plan, one: StoredTime, relaxation: Price) -> Job:
    """Gradients through the attack time in each iteration, then the machine's own steps from 0 to each."""
    steps = one.temporal.iterations * one.time + sum(one.steps)
    price = relaxation.times(steps / one.program.graph.steps)
    opening = Price(_rate(one.program).open_s, 0.0)
    return Job(plan, Kind(_platform(one.program), TIMES), one, True, Price.sum([price, opening]))


def _attack_job(plan: Plan, one: StoredAttack) -> Job:
    """Gradients or queries where the images are made, then reads in one batch wherever they are shown."""
    made, settings = one.made_on.program, one.settings
    eot = settings.eot if made.target.is_noisy else 1
    tried = one.effort * (len(settings.gradients) * settings.restarts * eot if one.threat.is_white_box else 1)
    making = _relaxation(made).times(0 if one.threat == CLEAN else tried + 1)
    shown = (_batch(place.program, one.repeats if place.program.target.is_noisy else 1) for place in one.shown_to)
    opening = Price(_rate(made).open_s * (1 + len(one.shown_to)), 0.0)
    return Job(plan, Kind(_platform(made), SUCCESS), one, True, Price.sum([making, *shown, opening]))


def _noise_job(plan: Plan, one: StoredNoise) -> Job:
    """Batches of all draws for as many sigmas as are tried, then an attack of each strength and its draws."""
    program = replace(one.program, target=one.program.target.having(**{one.source: MOST}))
    strengths = len(one.grid.strengths)
    batches = _batch(program, one.repeats).times(strengths + 1 + (HALVINGS if one.drop else 0))
    making = _relaxation(program).times(strengths * one.grid.efforts[-1] * len(one.settings.gradients))
    return Job(plan, Kind(_platform(program), NOISE), one, True, Price.sum([batches, making]))


def _batch(program: AnyProgram, reads: int) -> Price:
    """So many reads of every image in one relaxation."""
    fixed, each = _relaxation(program)
    return Price(fixed, reads * each)
