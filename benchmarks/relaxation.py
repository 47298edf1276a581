"""How fast the reference relaxes, side by side with its bare convolutions and with a fixed number of steps.

    python -m benchmarks.relaxation [REPEATS] [MODEL ...]

Peers take turns, so that whatever else the machine does meets all of them; a ratio is one of medians of CPU seconds, on
one thread. A step is a synchronous one at the size of the CIFAR-10 network of Laborieux et al. 2021, random weights,
16 images; its six convolutions are the three forward and three feedback reads that it cannot do without. Converged
predictions are those of each MODEL (cifar10-small), every image stopped at its residual (or after the network's own
steps) or once its answer is decided, against 250 synchronous steps.
"""

import itertools
import sys
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F

import ep_hw
from benchmarks.turns import HEADER, Row, cpu_seconds, help_if_asked
from ep_hw.data import load_data
from ep_hw.networks.random import random_network
from simulators.reference import FloatSubstrate, ReferenceMachine, unpool
from simulators.relaxation import relax

BATCH, STEPS = 16, 4
MODELS = ("cifar10-small",)
DECIDED = 40   # times that a margin must outweigh the last change: 99.5 % of validation images keep their answer
SCHEDULES = ("alternating", "synchronous")
IMAGES, FIXED_STEPS = 500, 250
AGREEMENT_GOAL = 0.995


@torch.inference_mode()
def step_over_convolutions(repeats: int) -> Row:
    """A step, and its six convolutions."""
    substrate = FloatSubstrate.of(random_network("cifar10-paper-random").lower())
    images = torch.rand((BATCH, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    run = partial(relax, substrate, images, schedule="synchronous")
    states = run(steps=STEPS).states
    pairs = [(projection, below, unpool(above, projection.forward(below)[1], projection.window.unpooled))
             for projection, below, above in zip(substrate.projections[1:], states, states[1:])]

    def convolutions():
        for _ in range(STEPS):
            for projection, below, z in pairs:
                F.conv2d(below, projection.weight, projection.bias, padding=projection.window.padding)
                F.conv_transpose2d(z, projection.weight, padding=projection.window.padding)

    longer, shorter, bare = cpu_seconds(repeats, lambda: run(steps=STEPS + 1, states=states),
                                       lambda: run(steps=1, states=states), convolutions)
    return Row("a step / its six convolutions", (longer - shorter) / STEPS, bare / STEPS, 1.06)


def converged_over_fixed(repeats: int, model: str) -> Iterator[tuple[Row, float]]:
    """Predictions of the same test images by either schedule, each image stopped at rest or once its answer is decided,
    and by synchronous steps that do not stop; with each, the share of equal ones.
    """
    net = ep_hw.load(model)
    graph, images = net.lower(), load_data(net.data, "test").images[:IMAGES]
    machines = {"at rest": ReferenceMachine(graph), "decided": ReferenceMachine(graph, decided=DECIDED)}
    substrate, predictions = FloatSubstrate.of(graph), {}

    def stopped(schedule, stop):
        predictions[schedule, stop] = machines[stop].relax(images, schedule=schedule).prediction

    @torch.inference_mode()
    def fixed():
        end = relax(substrate, images, schedule="synchronous", steps=FIXED_STEPS)
        predictions["fixed"] = substrate.logits(end.states[-1]).argmax(1)

    ways = list(itertools.product(SCHEDULES, machines))
    *ours, theirs = cpu_seconds(repeats, *(partial(stopped, *way) for way in ways), fixed)
    for way, taken in zip(ways, ours):
        yield (Row(f"{model}, {', '.join(way)} / {FIXED_STEPS} synchronous steps", taken, theirs, 6, faster=True),
               (predictions[way] == predictions["fixed"]).float().mean().item())


def main():
    help_if_asked(__doc__)
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    print(HEADER)
    print(step_over_convolutions(repeats), flush=True)
    for model in sys.argv[2:] or MODELS:
        for row, same in converged_over_fixed(max(1, repeats // 4), model):
            print(row)
            print(f"    equal predictions: {same:.1%} of {IMAGES} (goal: at least {AGREEMENT_GOAL:.1%})", flush=True)


if __name__ == "__main__":
    main()
