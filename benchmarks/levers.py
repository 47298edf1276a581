"""What each lever of a recipe does for EP-CNNs on digits: one thing is changed at a time.

    python -m benchmarks.levers [LEVER ...] [--start RECIPE] [--seeds N ...] [--epochs N] [--images N]
    python -m benchmarks.levers --packaged

Networks are trained by RECIPE (digits), but for what the lever changes, on the training images alone, and asked about
the validation images. A row is one of the table in docs/training.md, means over the seeds: accuracy; the share of the
first N images that l2 PGD leaves right at 0.25 and 0.5; synchronous steps until an image is at rest, its residual after
40 of them; CPU seconds of a training, on one thread. With --packaged, EP-CNNs that are packaged in several seeds are
asked about the test images.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.turns import timed
from ep_hw.data import Split, load_data
from ep_hw.learning.training import load_recipe, parse_recipe, train
from ep_hw.networks.checkpoint import load
from ep_hw.networks.network import EPNetwork
from ep_hw.threats.attacks import AttackSettings, attack
from ep_hw.threats.threat import parse_threat
from simulators.machine import Machine

LEVERS: dict[str, dict[str, Any]] = {   # what a recipe has in place of its own
    "none": {},
    "feedback_norm = 0": {"feedback_norm": 0},
    "average = 0.99": {"average": 0.99},
    "optimiser = adamw": {"optimiser": "adamw", "rates": [0.004, 0.004, 0.004], "weight_decay": 0.01},
    "feedback_gain = 0.3": {"feedback_gain": 0.3},
    "free_steps from 10 to 30": {"free_steps": 10, "last_free_steps": 30},
}
FAMILIES = "digits-ep", "digits-gain03", "digits-gain01"
SEEDS = 11, 13, 17, 19, 31   # of the packaged networks
ATTACKS, STEPS = ("pgd_l2@0.25", "pgd_l2@0.5"), 40
HEADER = ("| lever | right, % | PGD 0.25 | PGD 0.5 | steps to rest | residual after 40 | CPU s |\n"
          "| --- | --- | --- | --- | --- | --- | --- |")


@dataclass(frozen=True)
class Row:
    """What a network does.

    Attributes:
        right: the fraction of the images that are classified correctly.
        robust: that fraction of the attacked images, one number an attack.
        steps: synchronous steps until an image is at rest, a mean.
        residual: of an image after `STEPS` of them, a mean.
        seconds: of CPU time that its training took; 0 where it was packaged.
    """

    right: float
    robust: tuple[float, ...]
    steps: float
    residual: float
    seconds: float


def measured(net: EPNetwork, split: str, attacked: int, seconds: float = 0) -> Row:
    """Ask a network.

    Args:
        net: the network.
        split: of its data, that it is asked about.
        attacked: how many images are attacked.
        seconds: that its training took.
    """
    machine, images = net.machine(), load_data(net.data, split)
    rest = machine.relax(images.images, schedule="synchronous")
    late = machine.relax(images.images, STEPS, schedule="synchronous")
    return Row((rest.prediction == images.labels).float().mean().item(),
               tuple(robust(machine, threat, images.take(slice(attacked))) for threat in ATTACKS),
               rest.steps.float().mean().item(), late.residual.mean().item(), seconds)


def trained(recipe: str, lever: Mapping[str, Any], seed: int, attacked: int) -> Row:
    """Train a network on the training images alone and ask it about those of validation.

    Args:
        recipe: name or file of the recipe.
        lever: fields that take the place of its own.
        seed: of the training.
        attacked: how many images are attacked.
    """
    content = load_recipe(recipe).model_dump(mode="json")
    changed = parse_recipe({**content, **lever, "keep_validation": True})
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "net.safetensors"
        _, seconds = timed(lambda: train(changed, seed, out, name="lever"))
        return measured(load(out), "validation", attacked, seconds)


def robust(machine: Machine, threat: str, images: Split) -> float:
    """The fraction of the images that an attack with its usual settings leaves right."""
    found = attack(machine, parse_threat(threat), images.images, images.labels, AttackSettings(),
                   torch.Generator().manual_seed(0))
    return found.broken_by.count("") / len(images)


def line(lever: str, rows: Sequence[Row]) -> str:
    """The table's line of a lever, means over its rows."""
    first, second = (100 * mean(ways) for ways in zip(*(row.robust for row in rows)))
    seconds = mean(row.seconds for row in rows)
    return (f"| {lever} | {100 * mean(row.right for row in rows):.1f} | {first:.1f} | {second:.1f} | "
            f"{mean(row.steps for row in rows):.0f} | {mean(row.residual for row in rows):.1e} | "
            f"{f'{seconds:.0f}' if seconds else ''} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("levers", metavar="LEVER", nargs="*")
    parser.add_argument("--packaged", action="store_true")
    parser.add_argument("--start", metavar="RECIPE", default="digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--images", type=int, default=64)
    asked = parser.parse_args()
    if unknown := [lever for lever in asked.levers if lever not in LEVERS]:
        parser.error(f"unknown levers {', '.join(unknown)}; allowed: {'; '.join(LEVERS)}")
    torch.set_num_threads(1)
    print(HEADER)
    for family in FAMILIES if asked.packaged else ():
        print(line(family, [measured(load(f"{family}-s{seed}"), "test", asked.images) for seed in SEEDS]), flush=True)
    for lever in () if asked.packaged else asked.levers or LEVERS:
        rows = [trained(asked.start, {"epochs": asked.epochs, **LEVERS[lever]}, seed, asked.images)
                for seed in asked.seeds]
        print(line(lever, rows), flush=True)


if __name__ == "__main__":
    main()
