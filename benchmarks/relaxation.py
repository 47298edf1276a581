"""How fast the reference relaxes, side by side with its bare convolutions and with a fixed number of steps.

    python -m benchmarks.relaxation [REPEATS] [MODEL]

Peers take turns, so that whatever else the machine does meets all of them; a ratio is one of medians of CPU seconds, on
one thread. A step is a synchronous one at the size of the CIFAR-10 network of Laborieux et al. 2021, random weights,
16 images; its six convolutions are the three forward and three feedback reads that it cannot do without. Converged
predictions are those of MODEL (cifar10-small), each image stopped at its residual, against 250 synchronous steps.
"""

import statistics
import sys
import time
from functools import partial

import torch
import torch.nn.functional as F

import ep_hw
from ep_hw.data import load_data
from ep_hw.drawn import draw
from simulators.reference import FloatSubstrate, ReferenceMachine, unpool
from simulators.relaxation import relax

BATCH, STEPS = 16, 4
IMAGES, FIXED_STEPS = 200, 250
STEP_GOAL, CONVERGED_GOAL, AGREEMENT_GOAL = 1.06, 6.0, 0.995


def take_turns(repeats: int, *peers) -> list[float]:
    """Each peer's median CPU seconds over several rounds after one that does not count."""
    rounds = [[_seconds(peer) for peer in peers] for _ in range(repeats + 1)][1:]
    return [statistics.median(taken) for taken in zip(*rounds)]


def _seconds(work) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


@torch.inference_mode()
def step_over_convolutions(repeats: int) -> tuple[float, float]:
    """Seconds of (a step, its six convolutions)."""
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

    longer, shorter, bare = take_turns(repeats, lambda: run(steps=STEPS + 1, states=states),
                                       lambda: run(steps=1, states=states), convolutions)
    return (longer - shorter) / STEPS, bare / STEPS


def converged_over_fixed(repeats: int, model: str) -> tuple[float, float, float]:
    """Seconds of (stopped, fixed) relaxations of the same test images, and the share of equal predictions."""
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

    ours, theirs = take_turns(repeats, stopped, fixed)
    return ours, theirs, (found["stopped"] == found["fixed"]).float().mean().item()


def main():
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    torch.set_num_threads(1)
    step, bare = step_over_convolutions(repeats)
    print(f"a step {step * 1e3:.1f} ms, its six convolutions {bare * 1e3:.1f} ms: {step / bare:.3f} times "
          f"(goal: at most {STEP_GOAL})", flush=True)
    model = sys.argv[2] if len(sys.argv) > 2 else "cifar10-small"
    ours, theirs, same = converged_over_fixed(max(1, repeats // 4), model)
    print(f"{model}, {IMAGES} images: converged {ours:.1f} s, {FIXED_STEPS} synchronous steps {theirs:.1f} s: "
          f"{theirs / ours:.1f} times faster (goal: at least {CONVERGED_GOAL:g}), {same:.1%} equal predictions "
          f"(goal: at least {AGREEMENT_GOAL:.1%})")


if __name__ == "__main__":
    main()
