"""What an answer takes: whole evaluations by an earlier commit and by this one, on the same machine in one run.

    python -m benchmarks.answers [QUESTION ...] [--before COMMIT] [--python FILE] [--images N]

A QUESTION is `pcm` (PGD and JPEG on the digits network and two PCM chips), `cifar10` (PGD of four strengths on one
network, on the reference and on Loihi) or `paper` (the paper's suite on `digits` alone); all by default. The
earlier commit and this one are checked out into temporary folders and run there in the environments that they ask for,
both on the packaged networks of the earlier one. Seconds are
those of processors, all workers included, since other programs may take their share of the clock. Accuracies under
attack are compared image by image (exact McNemar): none may be higher than before by more than chance. With fewer
images all of it is smaller. `paper` needs the photographs of frost: set EP_HW_FROST to their folder.
"""

import argparse
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from ep_hw.analysis.statistics import LEVEL, mcnemar

ROOT = Path(__file__).parents[1]
BEFORE = "6485633"   # the last commit whose attacks ran to their end, whatever they had found
GOAL = 0.2           # of the seconds before
MODELS = Path("ep_hw", "networks", "models")   # of a commit
CIFAR_STRENGTHS = 0.0788029, 0.308503, 0.486219, 1.0
Case = tuple[str, int, str]   # machine, chip (-1 for none) and threat
Right = dict[Case, list[bool]]   # image by image


@dataclass(frozen=True)
class Question:
    """An evaluation: arguments of `ep-hw evaluate` but for the images, and how many these are."""

    arguments: tuple[str, ...]
    images: int


def _attacks(strengths: Sequence[float]) -> tuple[str, ...]:
    return tuple(text for strength in strengths for text in ("--attack", f"pgd_l2@{strength!r}"))


QUESTIONS = {
    "pcm": Question(("digits", "--on", "reference", "--on", "crossbar:pcm", "--attack", "pgd_l2@0.5", "--corruption",
                     "jpeg_compression@3", "--chips", "2", "--seed", "3"), 64),
    "cifar10": Question(("cifar10-small", "--alone", "--on", "reference", "--on", "loihi", *_attacks(CIFAR_STRENGTHS)),
                        300),
    "paper": Question(("digits", "--alone", "--suite", "paper", "--on", "reference"), 100)}


@dataclass(frozen=True)
class Answer:
    """What a run took, in seconds of processors, and found."""

    seconds: float
    right: Right


@contextmanager
def tree_of(commit: str, python: str | None = None) -> Iterator[Path]:
    """The files of a commit, in a folder that goes away, with the environment that it asks for."""
    with TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, commit], check=True)
        try:
            subprocess.run(["uv", "sync", "--quiet", "--no-dev", "--project", tree,
                            *(["--python", python] if python else [])], check=True)
            yield tree
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def ask(question: Question, images: int, tree: Path, out: Path) -> Answer:
    """Run the commands of a tree."""
    before = _children()
    subprocess.run(["uv", "run", "--quiet", "--no-sync", "--project", tree, "ep-hw", "evaluate", *question.arguments,
                    "--images", str(images), "--out", out], check=True, stdout=subprocess.DEVNULL)
    return Answer(_children() - before, right_in(out))


def _children() -> float:
    """Seconds that processors worked for all processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def right_in(folder: Path) -> Right:
    """Which images every results table below a folder has right, under attacks."""
    def case(row: Mapping) -> Case:
        chip = -1 if row["chip_seed"] is None else row["chip_seed"]
        return f"{row['model']} {row['machine']}", chip, f"{row['threat']}@{row['strength']:g}"

    rows = [row for path in sorted(folder.rglob("results.parquet")) if "probes" not in path.parts
            for row in pq.read_table(path).to_pylist() if row["noise_correct"] is not None]
    ordered = sorted(rows, key=lambda row: (case(row), row["image_id"]))
    return {key: [row["prediction"] == row["label"] for row in own] for key, own in groupby(ordered, case)}


def raised(before: Right, after: Right) -> list[str]:
    """What stands higher than before by more than chance, in words."""
    found = []
    for case in before.keys() & after.keys():
        pairs = list(zip(before[case], after[case]))
        lost, won = (sum(pair == change for pair in pairs) for change in ((True, False), (False, True)))
        if won > lost and mcnemar(won, lost) <= 1 - LEVEL:
            found.append(f"{case}: {won} images more and {lost} fewer of {len(pairs)}")
    return sorted(found)


def mean(right: Right) -> float:
    """Accuracy over all attacks, machines and images."""
    every = [one for values in right.values() for one in values]
    return sum(every) / len(every)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], metavar="QUESTION")
    parser.add_argument("--before", default=BEFORE, help="a commit, tag or branch")
    parser.add_argument("--python", help="interpreter for that commit, where uv does not find one by itself")
    parser.add_argument("--images", type=int, help="fewer than in the questions")
    asked = parser.parse_args()
    print(f"{'CPU seconds':12} {'images':>6} {'before':>9} {'after':>9} {'ratio':>7}  accuracy under attack")
    with tree_of(asked.before, asked.python) as then, tree_of("HEAD") as now, TemporaryDirectory() as out:
        shutil.rmtree(now / MODELS)
        shutil.copytree(then / MODELS, now / MODELS)
        for name in asked.questions or QUESTIONS:
            question = QUESTIONS[name]
            images = min(asked.images or question.images, question.images)
            before, after = (ask(question, images, tree, Path(out) / name / side)
                             for side, tree in (("before", then), ("after", now)))
            ratio, higher = after.seconds / before.seconds, raised(before.right, after.right)
            print(f"{name:12} {images:6} {before.seconds:9.1f} {after.seconds:9.1f} {ratio:7.3f}  "
                  f"{mean(before.right):.3f}, now {mean(after.right):.3f}; {'met' if ratio <= GOAL else 'MISSED'}; "
                  f"{len(higher)} of {len(before.right)} higher by more than chance", *higher, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
