"""How fast attacks and corruptions are, side by side with the Adversarial Robustness Toolbox and imagecorruptions.

    python -m benchmarks.attacks [ROW ...] [--repeats N]

uv brings the toolbox and the corruptions for the run, or it is said what to install. A ROW is `identical`, `adjoint` or
the name of a corruption; all of them by default, which takes a few minutes. Peers take turns, so that whatever else the
machine does meets all of them; a ratio is one of medians of CPU time, on one thread. PGD l2 with 20 iterations attacks
the packaged digits network; the toolbox drives the same network through a thin torch module, first with the very
gradients that ours takes (it clips before it projects, ours after), then through a relaxation that has settled, against
an adjoint whose free phase stops early.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

import ep_hw
import mapping
import simulators
from benchmarks.peers import bring
from benchmarks.turns import cpu_seconds
from ep_hw.data import load_data
from ep_hw.threats.attacks import PGD, Adjoint, Unrolled
from ep_hw.threats.corruptions import ALL, corrupt
from simulators.machine import Machine

IMAGES, EPS, ITERATIONS = 100, 0.5, 20
PEERS = {"art": "adversarial-robustness-toolbox==1.20.1", "imagecorruptions": "imagecorruptions-imaug>=1.1",
         "cv2": "opencv-python-headless"}
UNROLLED = 60   # synchronous steps whose gradient has a cosine of .998 to that through 300, on nine images of ten
EARLY = Adjoint(10, steps=12)   # no weaker an attack: the robust accuracies are printed
CORRUPTED, SEVERITY = 100, 3
ATTACKS = {   # row -> our gradient, synchronous steps of the toolbox's network, how many times faster ours must be
    "identical": (Unrolled(10), 10, 1),
    "adjoint": (EARLY, UNROLLED, 3)}


@dataclass(frozen=True)
class Row:
    """One comparison of rates, and how many times faster ours must be."""

    what: str
    ours: float
    theirs: float
    goal: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def __str__(self):
        verdict = "met" if self.ratio >= self.goal else "MISSED"
        return f"{self.what:66} {self.ours:9.0f} {self.theirs:9.0f} {self.ratio:7.2f}  >= {self.goal:<4g} {verdict}"


class Thin(torch.nn.Module):
    """The network as the toolbox wants it: images to logits after a number of synchronous steps."""

    def __init__(self, machine: Machine, steps: int):
        super().__init__()
        self.machine, self.steps = machine, steps

    def forward(self, images):
        return self.machine.relax(images, self.steps, schedule="synchronous").logits


def toolbox(machine: Machine, steps: int, shape):
    """The toolbox's PGD with the paper's settings."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(Thin(machine, steps), torch.nn.CrossEntropyLoss(), shape, machine.graph.classes,
                                   clip_values=(0.0, 1.0), device_type="cpu")
    return ProjectedGradientDescentPyTorch(classifier, norm=2, eps=EPS, eps_step=EPS / 8, max_iter=ITERATIONS,
                                           num_random_init=0, batch_size=IMAGES, verbose=False)


def attacks(names: Sequence[str], repeats: int) -> Iterator[Row]:
    """PGD, a row of `ATTACKS` each; robust accuracies are printed, as they must be equal."""
    test = load_data("digits", "test").take(slice(IMAGES))
    machine = simulators.open(mapping.compile(ep_hw.load("digits").lower(), "reference"))
    for gradient, steps, goal in map(ATTACKS.get, names):
        peer, made = toolbox(machine, steps, tuple(test.images.shape[1:])), {}

        def ours(gradient=gradient, made=made):
            made["ours"] = PGD("l2", EPS, gradient, ITERATIONS).run(machine, test.images, test.labels, None).images

        def theirs(peer=peer, made=made):
            made["theirs"] = torch.from_numpy(peer.generate(test.images.numpy(), test.labels.numpy()))

        rates = [IMAGES * ITERATIONS / taken for taken in cpu_seconds(repeats, ours, theirs)]
        left = [float((machine.relax(x.clamp(0, 1)).prediction == test.labels).float().mean()) for x in made.values()]
        apart = float((made["ours"] - made["theirs"]).abs().amax())
        what = f"{gradient} / bptt@{steps}"
        print(f"  {what}: robust accuracy {left[0]:.2f} against {left[1]:.2f}, pixels at most {apart:.1e} apart")
        yield Row(f"PGD-{ITERATIONS}, images x iterations a second: {what}", *rates, goal)


def corruptions(names: Sequence[str], repeats: int) -> Iterator[Row]:
    """Corruptions of 32 x 32 colour images: a batch of ours, theirs one by one as it takes them; then the median."""
    import imagecorruptions

    pixels = np.random.default_rng(0).integers(0, 256, (CORRUPTED, 3, 32, 32), dtype=np.uint8)
    batch, singles = pixels / 255, np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
    rows = []
    for name in names:
        taken = cpu_seconds(repeats, lambda name=name: corrupt(batch, name, SEVERITY, np.random.default_rng(0)),
                           lambda name=name: [imagecorruptions.corrupt(x, SEVERITY, name) for x in singles])
        rows.append(Row(f"images a second: {name}", *(CORRUPTED / t for t in taken), 1))
        yield rows[-1]
    if len(rows) == len(ALL):
        median = sorted(rows, key=lambda row: row.ratio)[len(rows) // 2]
        yield Row(f"the median corruption, {median.what.rpartition(' ')[2]}", median.ours, median.theirs, 5)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*ATTACKS, *ALL]
    parser.add_argument("rows", metavar="ROW", nargs="*", help=", ".join(known))
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if unknown := [row for row in asked.rows if row not in known]:
        parser.error(f"no such row: {', '.join(unknown)}; allowed: {', '.join(known)}")
    bring("benchmarks.attacks", PEERS)
    chosen = [row for row in known if row in (asked.rows or known)]
    torch.set_num_threads(1)
    print(f"{'medians of ' + str(asked.repeats):66} {'ours':>9} {'theirs':>9} {'ratio':>7}  goal")
    for compare, rows in ((attacks, ATTACKS), (corruptions, ALL)):
        for row in compare([name for name in chosen if name in rows], asked.repeats):
            print(row, flush=True)


if __name__ == "__main__":
    main()
