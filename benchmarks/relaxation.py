"""How fast the reference relaxes, side by side with its bare convolutions and with a fixed number of steps.

    python -m benchmarks.relaxation [REPEATS] [MODEL]

Peers take turns, so that whatever else the machine does meets all of them; a ratio is one of medians of CPU seconds, on
one thread. A step is a synchronous one at the size of the CIFAR-10 network of Laborieux et al. 2021, random weights,
16 images; its six convolutions are the three forward and three feedback reads that it cannot do without. Converged
predictions are those of MODEL (cifar10-small), each image stopped at its residual, against 250 synchronous steps.
"""

import sys
from functools import partial

import torch
import torch.nn.functional as F

import ep_hw
from benchmarks.turns import HEADER, Row, cpu_seconds
from ep_hw.data import load_data
from ep_hw.drawn import draw
from simulators.reference import FloatSubstrate, ReferenceMachine, unpool
from simulators.relaxation import relax

BATCH, STEPS = 16, 4
IMAGES, FIXED_STEPS = 200, 250
AGREEMENT_GOAL = 0.995


@torch.inference_mode()
def step_over_convolutions(repeats: int) -> Row:
    """A step, and its six convolutions."""
    substrate = FloatSubstrate.of(draw("cifar10-paper-random").lower())
    images = torch.rand((BATCH, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    run = partial(relax, substrate, images, schedule="synchronous")
    states = run(steps=STEPS).states
    pairs = [(arm, below, unpool(above, arm.forward(below)[1], arm.unpooled))
             for arm, below, above in zip(substrate.arms[1:], states, states[1:])]

    def convolutions():
        for _ in range(STEPS):
            for arm, below, z in pairs:
                F.conv2d(below, arm.weight, arm.bias, padding=arm.padding)
                F.conv_transpose2d(z, arm.weight, padding=arm.padding)

    longer, shorter, bare = cpu_seconds(repeats, lambda: run(steps=STEPS + 1, states=states),
                                       lambda: run(steps=1, states=states), convolutions)
    return Row("a step / its six convolutions", (longer - shorter) / STEPS, bare / STEPS, 1.06)


def converged_over_fixed(repeats: int, model: str) -> tuple[Row, float]:
    """Relaxations that stop and ones that do not, of the same test images, and the share of equal predictions."""
    net = ep_hw.load(model)
    graph, images = net.lower(), load_data(net.provenance["data"]["name"], "test").images[:IMAGES]
    machine, substrate = ReferenceMachine(graph), FloatSubstrate.of(graph)
    found = {}

    def stopped():
        found["stopped"] = machine.relax(images).prediction

    @torch.inference_mode()
    def fixed():
        end = relax(substrate, images, schedule="synchronous", steps=FIXED_STEPS)
        found["fixed"] = substrate.logits(end.states[-1]).argmax(1)

    ours, theirs = cpu_seconds(repeats, stopped, fixed)
    row = Row(f"{model}, {IMAGES} images: converged / {FIXED_STEPS} synchronous steps", ours, theirs, 6, faster=True)
    return row, (found["stopped"] == found["fixed"]).float().mean().item()


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    print(HEADER)
    print(step_over_convolutions(repeats), flush=True)
    row, same = converged_over_fixed(max(1, repeats // 4), sys.argv[2] if len(sys.argv) > 2 else "cifar10-small")
    print(row)
    print(f"equal predictions: {same:.1%} of images (goal: at least {AGREEMENT_GOAL:.1%})")


if __name__ == "__main__":
    main()
