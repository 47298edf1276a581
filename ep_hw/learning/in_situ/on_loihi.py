"""`ep-hw tune` on Loihi and on Lava: programs whose integers learn where they run, beside what else could be done.

    mapped      as compiled, in the world that it meets now
    readout     only the readout learns on the machine
    off-chip    the network learns in floats from the same images, and is compiled anew: it cannot know what is dead
    tuned       every layer learns on the machine

The steps of learning are halved after every second epoch. Chips differ in their dead neurons, where the machine has
any, and in the order of images and the rounding of weights.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from pydantic import Field

import mapping
import simulators
from ep_hw.analysis.statistics import wilson
from ep_hw.data.splits import Split
from ep_hw.learning.in_situ.comparison import comparison_table, digital_row, tuning_told
from ep_hw.learning.in_situ.figure import tuning_charts, tuning_figure
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.learning.rule import ep_gradient
from ep_hw.networks.accuracy import accuracy
from ep_hw.networks.network import EPNetwork
from ep_hw.networks.programs import reference_of
from ep_hw.report.story import write_told
from ep_hw.threads import threads
from ep_hw.versions import TUNING, libraries
from mapping.errors import Refusal
from mapping.fields import Fraction, Sha256, Stated
from mapping.files import parse_json, read_bytes, refusing, write_atomically
from mapping.loading import load_program
from mapping.loihi.plasticity import Learning, Phases, plan_learning
from mapping.loihi.program import LoihiProgram
from mapping.program import Table
from simulators.loihi.energy import mean_cost
from simulators.loihi.events import full_activity
from simulators.loihi.learner import LavaLearner, Learner, TwinLearner
from simulators.loihi.twin import open_twin, twin_of
from simulators.reference import FloatSubstrate

READOUT_SHARE = 1 / 3   # of the rate: what the readout learns at
COOLING = 2             # epochs after which steps are halved
LEARNING = ("readout", "tuned")


@dataclass(frozen=True, eq=False)
class LoihiTuning:
    """A tuning as one command does it.

    Attributes:
        net: the network to map and tune.
        program: it is compiled to, one state bit short of what is proven, so that weights have room to grow.
        chips: seeds of dead neurons, order and rounding.
        train: images that the chips learn from.
        watch: images whose accuracy is watched.
        test: images of the comparison.
        world: what all images went through first, in words; empty where nothing.
        settings: of the tuning.
        seed: of everything random.
    """

    net: EPNetwork
    program: LoihiProgram
    chips: tuple[int, ...]
    train: Split
    watch: Split
    test: Split
    world: str
    settings: TuningSettings
    seed: int

    @property
    def splits(self) -> tuple[Split, Split, Split]:
        """Images to learn from, to watch, and of the comparison."""
        return self.train, self.watch, self.test

    def title(self) -> str:
        where = f" in a world of {self.world}" if self.world else ""
        return f"{self.net.name} on {self.program.target.shown}{where}, {len(self.train)} images"

    @property
    def phases(self) -> Phases:
        s = self.settings
        return Phases(batch=s.batch, free_steps=s.free_steps, nudged_steps=s.nudged_steps, beta=s.beta)

    def on(self, chip: int) -> LoihiProgram:
        """The program of a chip."""
        target = self.program.target
        return replace(self.program, target=target.having(dead_seed=chip)) if target.dead else self.program

    def learning(self, chip: int, variant: str) -> Learning:
        """How a chip learns."""
        hidden = self.settings.rate if variant == "tuned" else 0.0
        rates = [hidden] * len(self.program.layers) + [self.settings.rate * READOUT_SHARE]
        return plan_learning(self.on(chip), rates=rates, phases=self.phases, seed=self.seed * 1_000_003 + chip)

    def fingerprint(self, chip: int, variant: str) -> str:
        """sha256 of everything that decides what a chip learns."""
        content = [TUNING, libraries(), self.on(chip).digest(), asdict(self.learning(chip, variant)), self.seed,
                   self.settings.epochs, [split.digest for split in (self.train, self.watch)]]
        return sha256(json.dumps(content).encode()).hexdigest()

    def batches(self, chip: int, epoch: int) -> list[torch.Tensor]:
        """Places of the images of each whole batch of an epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + chip * 1_009 + epoch)
        order = torch.randperm(len(self.train), generator=generator)
        return [part for part in order.split(self.settings.batch) if len(part) == self.settings.batch]


class Learned(Stated):
    """What a file says of a chip that has learned.

    Attributes:
        fingerprint: see `LoihiTuning.fingerprint`.
        watched: accuracy on the watched images before learning and after each epoch.
        writes: changes of a weight, each time it was written.
    """

    fingerprint: Sha256
    watched: list[Fraction] = Field(min_length=2, max_length=2**16)
    writes: int = Field(ge=0)


def plan_on_loihi(net: EPNetwork, program: LoihiProgram, chips: Sequence[int], settings: TuningSettings, *,
                  splits: tuple[Split, Split, Split], world: str, seed: int) -> LoihiTuning:
    """Decide everything before anything runs.

    Args:
        net: the network.
        program: it is compiled to.
        chips: seeds of the chips.
        settings: of the tuning.
        splits: images to learn from, to watch, and of the comparison.
        world: what they went through.
        seed: of everything random.

    Raises:
        Refusal: a program that cannot learn; fewer images than a batch; settings of crossbars alone.
    """
    if not program.target.is_whole or settings.pairs != 1 or settings.biases_only:
        raise Refusal("this tuning is for crossbars", where=f"--on {program.target}",
                      got="--pairs or --biases-only" if program.target.is_whole else program.target.name,
                      allowed="loihi or lava, without noise to average", remedy="leave these options out")
    if program.target.state_bits is None:
        program = mapping.compile(net.lower(), program.target.having(state_bits=program.state_bits - 1))
    if len(splits[0]) < settings.batch:
        raise Refusal("fewer images than a batch", where="--learn", got=len(splits[0]),
                      allowed=f"{settings.batch} or more", remedy="use a smaller --batch")
    tuning = LoihiTuning(net, program, tuple(dict.fromkeys(chips)), *splits, world, settings, seed)
    tuning.learning(tuning.chips[0], "tuned")
    return tuning


@threads(1)
def run_on_loihi(tuning: LoihiTuning, out: Path, log: Callable[[str, int, Sequence[float]], None],
                 command: str = "") -> Table:
    """Tune what is not yet tuned, compare, and write everything into the existing folder `out`.

    Args:
        tuning: what was decided.
        out: an existing folder; `out`/VARIANT-chip-N is the program of a chip that has learned.
        log: called after each epoch with variant, chip and the accuracies on the watched images so far.
        command: that asked for it, as the page says it.
    """
    test = tuning.test
    with simulators.open(reference_of(tuning.net)) as reference:
        rows = [_plain(digital_row(reference, test))]
    rows += [_row("mapped", tuning.on(chip), chip, test) for chip in tuning.chips]
    rows += [_row("off-chip", off_chip(tuning, chip), chip, test) for chip in tuning.chips]
    watched: dict[int, Sequence[float]] = {}
    for variant in LEARNING:
        for chip in tuning.chips:
            program, course = learn(tuning, chip, variant, out, log)
            watched[chip] = course.watched
            rows.append(_row(variant, program, chip, test, costs(tuning, course)))
    table = comparison_table(tuning.title(), rows, cost_notes(rows))
    settings = {"model": tuning.net.name, "target": str(tuning.program.target), "world": tuning.world,
                "seed": tuning.seed, "settings": tuning.settings.model_dump(mode="json"),
                "training_images": len(tuning.train), "watched": {str(chip): line for chip, line in watched.items()}}
    write_told(out, "tuning", settings, rows, table, tuning_figure(rows, watched), tuning_told(rows), command,
               tuning_charts(rows, watched))
    return table


def learn(tuning: LoihiTuning, chip: int, variant: str, out: Path,
          log: Callable[[str, int, Sequence[float]], None]) -> tuple[LoihiProgram, Learned]:
    """The program of a chip that has learned, from `out` where it is there already."""
    folder, file = out / f"{variant}-chip-{chip}", out / f"{variant}-chip-{chip}.json"
    fingerprint = tuning.fingerprint(chip, variant)
    if file.exists():
        with refusing("a tuned chip cannot be read", where=file, allowed="a file as it was written",
                      remedy="remove it and its folder, and run the same command again"):
            known = Learned.model_validate(parse_json(read_bytes(file)))
            if known.fingerprint != fingerprint:
                raise ValueError("it is of another tuning")
        program = load_program(folder)
        assert isinstance(program, LoihiProgram), "a folder of this tuning"
        return program, known
    watched, writes = [accuracy(twin_of(tuning.on(chip)), tuning.watch)], 0
    with learner_of(tuning.on(chip), tuning.learning(chip, variant)) as learner:
        for epoch in range(tuning.settings.epochs):
            for places in tuning.batches(chip, epoch):
                learner.learn(tuning.train.images[places], tuning.train.labels[places], cooling=epoch // COOLING)
            watched.append(accuracy(twin_of(learner.program), tuning.watch))
            log(variant, chip, watched)
        program, writes = learner.program, learner.writes
    if not folder.exists():
        program.save(folder)
    course = Learned(fingerprint=fingerprint, watched=watched, writes=writes)
    write_atomically(file, course.model_dump_json().encode() + b"\n")
    return program, course


def learner_of(program: LoihiProgram, learning: Learning) -> Learner:
    """On Lava's processes where the program is for them, else in the twin: both learn the same bits."""
    return LavaLearner(program, learning) if program.target.on_lava else TwinLearner(program, learning)


def off_chip(tuning: LoihiTuning, chip: int) -> LoihiProgram:
    """The program of the network after learning in floats, from the same images in the same order."""
    net, s = tuning.net, tuning.settings
    for epoch in range(s.epochs):
        for places in tuning.batches(chip, epoch):
            graph, images, labels = net.lower(), tuning.train.images[places], tuning.train.labels[places]
            gradient, _ = ep_gradient(FloatSubstrate.of(graph), images, labels, schedule=graph.schedule,
                                      free_steps=s.free_steps, nudged_steps=s.nudged_steps, beta=s.beta)
            net = _stepped(net, gradient, s.rate * 2.0 ** -(epoch // COOLING))
    program = mapping.compile(net.lower(), tuning.on(chip).target)
    assert isinstance(program, LoihiProgram), "compiled for Loihi"
    return program


def _stepped(net: EPNetwork, gradient: Sequence[tuple[torch.Tensor, torch.Tensor]], rate: float) -> EPNetwork:
    rates = [rate] * (len(net.weights) - 1) + [rate * READOUT_SHARE]
    return replace(net, weights=[w - r * g for w, r, (g, _) in zip(net.weights, rates, gradient)],
                   biases=[b - r * g for b, r, (_, g) in zip(net.biases, rates, gradient)])


_COSTS = ("writes", "time_steps", "operations", "energy_j", "neighbour_j")


def costs(tuning: LoihiTuning, course: Learned) -> dict:
    """What a chip's learning took: at full activity, of the relaxations; what writing takes is published nowhere."""
    s, p = tuning.settings, tuning.program
    steps = s.free_steps + 2 * (s.nudged_steps + 1)
    shown = s.epochs * (len(tuning.train) // s.batch) * s.batch
    most = full_activity(p, steps)
    each = mean_cost(p, most)
    return dict(zip(_COSTS, (course.writes, steps * shown, each.operations * shown, *(
        joules and joules * shown for joules in (each.energy_j, each.neighbour_j)))))


def cost_notes(rows: Sequence[dict]) -> tuple[str, ...]:
    """What tuning took, in words: means over chips."""
    tuned = [row for row in rows if row["variant"] == "tuned"]
    writes, steps, operations, energy_j, neighbour_j = (sum(row[key] for row in tuned) / len(tuned) for key in _COSTS)
    return (f"learning: {steps:.4g} time steps, at most {operations:.3g} synaptic operations and "
            f"{1e3 * energy_j:.3g} mJ (Loihi 1 as designed; {1e3 * neighbour_j:.3g} at Hala Point's rate), without "
            f"what writing takes; weights changed {writes:.4g} times",)


def _row(variant: str, program: LoihiProgram, chip: int, test: Split, cost: dict | None = None) -> dict:
    share = accuracy(open_twin(program) if not program.target.on_lava else twin_of(program), test)
    low, high = wilson(round(share * len(test)), len(test))
    return {"variant": variant, "machine": program.target.shown, "chip": chip, "images": len(test), "accuracy": share,
            "ci_low": low, "ci_high": high, **(cost or dict.fromkeys(_COSTS))}


def _plain(row: dict) -> dict:
    """A row without what crossbars cost."""
    kept = ("variant", "machine", "chip", "images", "accuracy", "ci_low", "ci_high")
    return {**{key: row[key] for key in kept}, **dict.fromkeys(_COSTS)}
