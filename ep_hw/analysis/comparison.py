"""Runs side by side: means over runs of several seeds, and two runs on the same images, image by image.

Source of the statistics: ep_hw.analysis.statistics, equations (2) and (3), and the paired bootstrap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from ep_hw.analysis.corruption_error import mce, mean_corruption_error
from ep_hw.analysis.results import NEEDED, ReadRow, read_card, read_results
from ep_hw.analysis.rows import Case, Plain, spelled
from ep_hw.analysis.statistics import mcnemar, paired_bootstrap, student
from ep_hw.networks.gains import gains_said, stated_gain
from ep_hw.networks.seeds import recipe_of
from ep_hw.threats.corruptions import ALL, MAIN
from ep_hw.threats.threat import Threat
from mapping.errors import Refusal
from mapping.program import Table
from mapping.targets import REFERENCE

Image = tuple[int, str, int]    # id, digest of its pixels, label


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """What an evaluation wrote into a folder: a row an image, and a row a cell."""

    folder: Path
    results: pa.Table
    summary: list[ReadRow]

    @classmethod
    def of(cls, folder: str | Path) -> "FinishedRun":
        """The run in `folder`.

        Raises:
            Refusal: see `read_results`.
        """
        return cls(Path(folder), *read_results(Path(folder)))

    @property
    def model(self) -> str:
        return self.summary[0].model

    @cached_property
    def provenance(self) -> dict:
        """What its card says of the network; {} without a card.

        Raises:
            Refusal: see `read_card`.
        """
        card = read_card(self.folder, self.model)
        return card.provenance if card else {}

    @cached_property
    def names(self) -> dict[str, str]:
        """Full name of each machine -> what it is called."""
        return {row.machine: row.machine_label or row.machine for row in self.summary}

    def machine(self, called: str) -> str:
        """The full name of a machine by that, or by what it is called."""
        full = {shown: name for name, shown in self.names.items()}
        return called if called in self.names else full.get(called, called)

    @cached_property
    def accuracy(self) -> dict[Case, float]:
        """Case -> accuracy, mean over chips."""
        values: dict[Case, list[float]] = {}
        for row in self.summary:
            values.setdefault((row.machine, row.met), []).append(row.accuracy)
        return {case: sum(chips) / len(chips) for case, chips in values.items()}

    @cached_property
    def correct(self) -> dict[Case, dict[Image, list[bool]]]:
        """Case -> image -> correctness, one a chip."""
        answers: dict[Case, dict[Image, list[bool]]] = {}
        threat = cache(Threat.named)
        for row in self.results.select(list(NEEDED)).to_pylist():
            case = answers.setdefault((row["machine"], threat(row["threat"], row["strength"])), {})
            image = row["image_id"], row["pixels"], row["label"]
            case.setdefault(image, []).append(row["prediction"] == row["label"])
        return answers


def over_runs(runs: Sequence[FinishedRun]) -> list[dict]:
    """A row for every case that all runs have: mean accuracy over runs with its Student interval.

    Raises:
        Refusal: fewer than two runs, or runs without a case in common.
    """
    cases = [case for case in runs[0].accuracy if all(case in run.accuracy for run in runs)]
    if len(runs) < 2 or not cases:
        raise Refusal("nothing to compare", where="RUN", got=", ".join(str(run.folder) for run in runs),
                      allowed="two runs or more with a machine and threat in common", remedy="evaluate alike")
    rows = []
    for case in cases:
        values = [run.accuracy[case] for run in runs]
        low, high = student(values)
        rows.append({**_named(case, runs), "runs": len(runs), "mean": float(np.mean(values)), "ci_low": low,
                     "ci_high": high, "lowest": min(values), "highest": max(values)})
    return rows


def paired(first: FinishedRun, second: FinishedRun, seed: int = 0) -> list[dict]:
    """A row for every case that both runs have: second minus first on the images that both saw.

    The bootstrap is over images, correctness a mean over chips; McNemar's test takes each image as right where more
    than half of the chips are.

    Raises:
        Refusal: the runs have cases in common, and no image in any of them.
    """
    rows = []
    cases = [case for case in first.correct if case in second.correct]
    for case in cases:
        a, b = first.correct[case], second.correct[case]
        if not (shared := sorted(a.keys() & b.keys())):
            continue
        ours, theirs = (np.array([np.mean(right[image]) for image in shared]) for right in (a, b))
        low, high = paired_bootstrap(ours, theirs, np.random.default_rng(seed))
        our, their = (values > 0.5 for values in (ours, theirs))
        rows.append({**_named(case, (first, second)), "images": len(shared), "left_out": len(a.keys() ^ b.keys()),
                     "first": float(ours.mean()), "second": float(theirs.mean()),
                     "difference": float((theirs - ours).mean()), "ci_low": low, "ci_high": high,
                     "mcnemar": mcnemar(int((our & ~their).sum()), int((their & ~our).sum()))})
    if cases and not rows:
        raise Refusal("the runs have no image in common", where=str(second.folder), got=f"{len(b)} others",
                      allowed=f"some of the {len(a)} of {first.folder}",
                      remedy="use the same data, and the same --seed or more --images")
    return rows


def corruption_means(runs: Sequence[FinishedRun], baseline: FinishedRun, machine: str = REFERENCE) -> list[dict]:
    """A row a run and machine: mCE against a machine of the baseline, and plain means over 15 and 19 corruptions.

    Raises:
        Refusal: a set is not complete, naming what is missing.
    """
    machine = baseline.machine(machine)
    return [{"run": str(run.folder), "model": run.model, "machine": name, "machine_label": run.names[name],
             "mce": mce(run.accuracy, name, baseline.accuracy, machine),
             "mean_15": mean_corruption_error(run.accuracy, name, MAIN),
             "mean_19": mean_corruption_error(run.accuracy, name, ALL) if _has_all(run, name) else None}
            for run in runs for name in dict.fromkeys(row.machine for row in run.summary) if "/" not in name]


def networks_of(runs: Sequence[FinishedRun]) -> list[dict]:
    """A row a run: its network, and that one's feedback gain where it is an EP network and the run has its card."""
    return [{"run": str(run.folder), "model": run.model, "feedback_gain": stated_gain(run.provenance)}
            for run in runs]


def feedback_gains(networks: Sequence[dict]) -> tuple[str, ...]:
    """The feedback gains of `networks_of` in a sentence."""
    return gains_said({f"{row['run']} ({row['model']})": row["feedback_gain"] for row in networks})


def _has_all(run: FinishedRun, machine: str) -> bool:
    return {threat.name for m, threat in run.accuracy if m == machine} >= set(ALL)


def _named(case: Case, runs: Sequence[FinishedRun]) -> Plain:
    """A case by full names, and by what its machines are called where all runs call them that."""
    first, *others = (run.names for run in runs)
    names = {full: shown for full, shown in first.items() if all(own.get(full) == shown for own in others)}
    machine, threat = case
    return {"machine": machine, "machine_label": names.get(machine, machine), **spelled(threat),
            "threat_label": threat.on(names).label}


def over_runs_table(rows: Sequence[dict], runs: Sequence[FinishedRun]) -> Table:
    """A line a case; runs of networks that were not trained alike are no seeds, which is said."""
    recipes = [recipe for run in runs if (recipe := recipe_of(run.provenance))]
    several = any(recipe != recipes[0] for recipe in recipes)
    notes = ("the networks are of several recipes: these are not means over seeds",) if several else ()
    lines = tuple((*_case(row), f"{row['mean']:.3f}", f"{row['ci_low']:.3f} to {row['ci_high']:.3f}",
                   f"{row['lowest']:.3f}", f"{row['highest']:.3f}") for row in rows)
    return Table(f"accuracy over {rows[0]['runs']} runs",
                 ("machine", "threat", "mean", "95 % (Student)", "lowest", "highest"), lines, notes)


def paired_table(rows: Sequence[dict], first: FinishedRun, second: FinishedRun) -> Table:
    """A line a case."""
    lines = tuple((*_case(row), row["images"], f"{row['first']:.3f}", f"{row['second']:.3f}",
                   f"{row['difference']:+.3f}", f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}",
                   f"{row['mcnemar']:.3g}") for row in rows)
    left_out = max((row["left_out"] for row in rows), default=0)
    notes = (f"images that one run alone saw are left out, up to {left_out} of a case",) if left_out else ()
    columns = ("machine", "threat", "images", "first", "second", "difference", "95 % (bootstrap)", "McNemar p")
    return Table(f"{second.folder} ({second.model}) against {first.folder} ({first.model}), on the same images",
                 columns, lines, notes)


def corruption_table(rows: Sequence[dict], baseline: FinishedRun, machine: str = REFERENCE) -> Table:
    """A line a run and machine."""
    lines = tuple((row["run"], row["model"], row["machine_label"], f"{row['mce']:.3f}", f"{row['mean_15']:.3f}",
                   "incomplete" if row["mean_19"] is None else f"{row['mean_19']:.3f}") for row in rows)
    return Table(f"corruption error; mCE against {baseline.model} on {machine}",
                 ("run", "model", "machine", "mCE", "mean of 15", "mean of 19"), lines)


def _case(row: dict) -> tuple[str, str]:
    return row["machine_label"], row["threat_label"]
