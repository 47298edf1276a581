"""One chip that learns: free and nudged phases on the machine, a contrast of its states, pulses on its devices.

    u_n = -rate dLoss/dw_n us_per_weight / (compensation scale_n)                                        (1)

is the change asked of the conductances of layer n's weights. dLoss/dw_n comes from the machine's own states
(ep_hw.learning.rule); compensation and scale_n are the factors by which the chip's periphery multiplies what it senses.
Devices are written by simulators.crossbar.writing; biases are digital and take their update as it is. The network that
the chip was compiled from is not used. Where feedback has arrays of its own, these get the same updates by their own
pulses.
"""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ep_hw.data.held import HeldSplit
from ep_hw.data.splits import Split
from ep_hw.learning.in_situ.settings import TuningSettings
from ep_hw.learning.rule import Gradient, ep_gradient
from mapping.crossbar.chips import ARRAYS
from mapping.crossbar.program import CrossbarLayer, CrossbarProgram
from mapping.crossbar.target import CrossbarTarget
from mapping.crossbar.writing import Writing
from simulators.crossbar.array import Array
from simulators.crossbar.chip import CrossbarMachine
from simulators.crossbar.devices import clipped_sigma_us
from simulators.crossbar.models import model_of
from simulators.crossbar.programmed import ProgrammedChip, directions, distinct, program_chip
from simulators.crossbar.programming import array_of, read_sigma_us, seeded, stuck_cells
from simulators.crossbar.writing import Written, unwritten, write


@dataclass(frozen=True, eq=False)
class Progress:
    """A chip while it is tuned.

    Attributes:
        chip: as it is now, with its digital biases.
        written: the record of each layer's devices, (forward, backward), or (forward,) where both share them.
        epochs: done so far.
    """

    chip: ProgrammedChip
    written: tuple[tuple[Written, ...], ...]
    epochs: int = 0

    @property
    def pulses(self) -> torch.Tensor:
        """(devices,) pulses that each device of the chip has taken."""
        return torch.cat([w.pulses.flatten() for arrays in self.written for w in arrays])


def begin(program: CrossbarProgram, chip_seed: int) -> Progress:
    """A chip as programming left it."""
    chip = program_chip(program, chip_seed)
    machine = CrossbarMachine(program, chip=chip)
    biases = tuple(projection.bias.flatten().clone() for projection in machine.projections)
    written = tuple(tuple(unwritten(array.conductance_us, len(bias)) for array in distinct(pair))
                    for pair, bias in zip(chip.arrays, biases))
    return Progress(replace(chip, biases=biases), written)


def tune_epoch(program: CrossbarProgram, progress: Progress, train: Split | HeldSplit, settings: TuningSettings,
               writing: Writing, seed: int) -> Progress:
    """One pass over the training images in random order; all randomness follows from chip, seed and epoch.

    Args:
        program: that the chip holds.
        progress: the chip before.
        train: training images.
        settings: of the tuning.
        writing: the effect of a pulse on a device.
        seed: of this tuning.

    Raises:
        Refusal: cells that are not written pulse by pulse.
    """
    epoch = progress.epochs
    generator = seeded(progress.chip.seed, "tuning", str(seed), str(epoch))
    for index in torch.randperm(len(train), generator=generator).split(settings.batch):
        shown = train.take(index)
        gradient = chip_gradient(program, progress.chip, shown.images, shown.labels, settings, generator)
        if settings.biases_only:
            gradient = [(torch.zeros_like(weight), bias) for weight, bias in gradient]
        progress = learn(program, progress, gradient, settings.rate_at(epoch), writing, generator)
    return replace(progress, epochs=epoch + 1)


def chip_gradient(program: CrossbarProgram, chip: ProgrammedChip, images: Tensor, labels: Tensor,
                  settings: TuningSettings, generator: Generator) -> Gradient:
    """(weight, bias) gradient pairs of the loss, readout last, from phases run on the chip.

    Args:
        program: that the chip holds.
        chip: that learns.
        images: (B, C, H, W) in [0, 1].
        labels: (B,).
        settings: of the phases.
        generator: of read noise.
    """
    machine = CrossbarMachine(program, chip=chip)
    return ep_gradient(machine.substrate, images, labels, schedule=program.graph.schedule,
                       free_steps=settings.free_steps, nudged_steps=settings.nudged_steps, beta=settings.beta,
                       pairs=1 if machine.deterministic else settings.pairs, generator=generator)[0]


def learn(program: CrossbarProgram, progress: Progress, gradient: Gradient, rate: float, writing: Writing,
          generator: Generator) -> Progress:
    """The chip after an update against a gradient, `ep_hw.learning.in_situ.tuner` (1).

    Args:
        program: that the chip holds.
        progress: the chip before.
        gradient: (weight, bias) pairs, readout last.
        rate: learning rate.
        writing: the effect of a pulse on a device.
        generator: of write noise.
    """
    chip, pairs, records = progress.chip, [], []
    for layer, pair, record, (weight, _) in zip(program.layers, chip.arrays, progress.written, gradient):
        arrays, written = [], []
        for name, array, before in zip(ARRAYS, distinct(pair), record):
            stuck = torch.stack(stuck_cells(layer, program.target, chip.seed, name)).any(0)
            update_us = -rate * us_per_gradient(layer, array) * weight.view_as(before.owed_us)
            after = write(before, update_us, writing, program.target, stuck, generator)
            arrays.append(_rewritten(layer, program.target, array, before, after))
            written.append(after)
        pairs.append(directions(arrays, backward=len(pair) > 1))
        records.append(tuple(written))
    assert chip.biases is not None, "a chip that learns has biases of its own"
    biases = tuple(bias - rate * step for bias, (_, step) in zip(chip.biases, gradient))
    return replace(progress, chip=replace(chip, arrays=tuple(pairs), biases=biases), written=tuple(records))


def us_per_gradient(layer: CrossbarLayer, array: Array) -> torch.Tensor:
    """(C_out, 1, 1, 1) microsiemens that change a weight of the layer by 1."""
    scale = torch.tensor(layer.stored.column_scale)[:, None, None, None]
    return array.us_per_weight / (array.factors.to(scale)[:, None, None, None] * scale)


def _rewritten(layer: CrossbarLayer, target: CrossbarTarget, array: Array, before: Written, after: Written) -> Array:
    """The array as it is read from now on: what was written carries the read noise of its new conductance."""
    fresh_us = array.fresh_us
    if fresh_us is not None:
        now_us, moved, model = after.conductance_us, after.conductance_us != before.conductance_us, model_of(target)
        sigma_us = read_sigma_us(target, model, now_us, now_us)
        fresh_us = torch.where(moved, clipped_sigma_us(now_us, sigma_us, *model.limits_us), fresh_us)
    return array_of(layer, target, after.conductance_us, fresh_us, array.compensation, array.column_factors)
