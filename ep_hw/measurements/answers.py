"""What measurements found, each in a sentence, under the question that it answers."""

from collections.abc import Mapping, Sequence

from ep_hw.analysis.points import Estimate
from ep_hw.analysis.statistics import unpaired_interval
from ep_hw.evaluation.temporal import TemporalPoint, worst_over_times
from ep_hw.measurements.landscape import Slice
from ep_hw.measurements.uncertainty import Uncertainty
from ep_hw.report.story import Told
from ep_hw.report.wording import interval, is_open, percent, points_of

Row = Mapping


def accuracy_of(row: Row) -> Estimate:
    """Of a row, with its interval over images."""
    return Estimate(row["accuracy"], row["ci_low"], row["ci_high"])


def with_interval(row: Row) -> str:
    """The accuracy of a row in words."""
    return f"{percent(row['accuracy'])} {interval(accuracy_of(row))}"


def accuracy_change(before: Row, after: Row) -> Estimate:
    """Of two rows, as if they had met different images: never too narrow."""
    right = (round(row["accuracy"] * row["images"]) for row in (before, after))
    (first, second), counts = right, (before["images"], after["images"])
    return Estimate(after["accuracy"] - before["accuracy"], *unpaired_interval(first, counts[0], second, counts[1]))


def events_told(rows: Sequence[Row]) -> Told:
    """The fewest events that cost no visible accuracy."""
    whole, *others = rows
    spared = [row for row in others if accuracy_change(whole, row).high >= 0]
    best = min(spared, key=lambda row: row["events"], default=whole)
    change = accuracy_change(whole, best)
    saved = 1 - best["events"] / whole["events"] if whole["events"] else 0.0
    return Told(f"How few events does {whole['machine']} need?", (
        f"With changes up to {best['threshold']:g} held back, an image takes {best['events']:.0f} events in place of "
        f"{whole['events']:.0f}, {100 * saved:.0f} % fewer, and accuracy changes from {percent(whole['accuracy'])} by "
        f"{points_of(change.value)} points {interval(change)}: the fewest events that cost no visible accuracy."
        if best is not whole else
        f"Every threshold costs visible accuracy: whole states take {whole['events']:.0f} events an image at "
        f"{with_interval(whole)}."))


def gradients_told(rows: Sequence[Row]) -> Told:
    """Each machine's best-aimed gradient, from the best to the worst machine."""
    best: dict[str, Row] = {}
    for row in rows:
        if row["machine"] not in best or row["cosine"] > best[row["machine"]]["cosine"]:
            best[row["machine"]] = row
    ranked = sorted(best.values(), key=lambda row: -row["cosine"])
    shown = ranked if len(ranked) < 3 else [ranked[0], ranked[-1]]
    said = " and ".join(f"{row['cosine']:.2f} [{row['cosine_low']:.2f}, {row['cosine_high']:.2f}] on {row['machine']} "
                        f"at beta {row['beta_used']:g}" for row in shown)
    rest = f", and between these on {len(ranked) - 2} more" if len(ranked) > 2 else ""
    return Told("What is a gradient worth that is measured by nudging?",
                f"At its best, its median cosine to the adjoint of the same machine is {said}{rest}.")


def temporal_told(points: Sequence[TemporalPoint]) -> Told:
    """The attack time that hurts most where the machine relaxes longest."""
    clean, *attacked = [point.rows()[-1] for point in points]
    first = f"After {clean['steps']} steps {clean['machine']} gets {with_interval(clean)} of clean images right"
    question = f"How long must an attacker of {clean['machine']} look ahead?"
    if not attacked:
        return Told(question, f"{first}.")
    worst = min(attacked, key=lambda row: row["accuracy"])
    return Told(question, (
        f"{first} and {with_interval(worst)} under an attacker whose gradient goes through T = {worst['attack_time']} "
        f"iterations, the worst time; {percent(worst_over_times(points)[-1])} withstand all of them."))


def uncertainty_told(curves: Sequence[Uncertainty]) -> Told:
    """The exponents of all machines."""
    known = [f"{c.alpha:.2f} [{c.low:.2f}, {c.high:.2f}] on {c.machine}" for c in curves if c.alpha is not None]
    few = [c.machine for c in curves if c.alpha is None]
    fitted = [f"The exponent is {', '.join(known)}; 1 is a smooth boundary between classes, less a fractal one."]
    unknown = [f"Too few predictions change on {', '.join(few)} to fit an exponent."]
    return Told("How does the chance of a changed prediction grow with a perturbation?",
                " ".join([*(fitted if known else []), *(unknown if few else [])]))


def transfer_told(rows: Sequence[Row]) -> Told:
    """The source whose images hurt another machine most, beside what that machine's own images do."""
    own = {row["target"]: row for row in rows if row["source"] == row["target"]}
    carried = [row for row in rows if row["source"] != row["target"]]
    question = f"Whom does {rows[0]['threat']} at {rows[0]['strength']:g} fool?"
    if not carried:
        (row,) = rows
        return Told(question, f"Images made on {row['source']} leave it {with_interval(row)}; nothing else met them.")
    worst = min(carried, key=lambda row: row["accuracy"])
    white = own[worst["target"]]
    return Told(question, (
        f"Images made on {worst['source']} carry over best: they leave {worst['target']} {with_interval(worst)}, "
        f"where those made on {worst['target']} itself leave {with_interval(white)}."))


def eot_told(rows: Sequence[Row]) -> Told:
    """What the most gradients gain over the fewest."""
    first, last = rows[0], rows[-1]
    change = accuracy_change(first, last)
    verdict = "a difference this sample cannot tell from none" if is_open(change) else "a visible difference"
    return Told(f"How many noisy gradients of {first['machine']} must an attacker average?", (
        f"From {first['draws']} to {last['draws']} averaged gradients, the median cosine to their mean goes from "
        f"{first['cosine']:.2f} to {last['cosine']:.2f} and accuracy from {percent(first['accuracy'])} to "
        f"{percent(last['accuracy'])}: {points_of(change.value)} points {interval(change)}, {verdict}."))


def slice_told(slices: Sequence[Slice]) -> Told:
    """How often a gradient beats a random direction."""
    said = ", ".join(f"{100 * one.aimed:.0f} % on {one.machine}" for one in slices)
    return Told(f"Does {slices[0].gradient} point uphill?", (
        f"A step along the gradient raises the loss more than a random step on {said} of {slices[0].images} images; "
        "about half or fewer would mean that it is masked."))


def devices_told(names: Sequence[str]) -> Told:
    """What the plot shows."""
    return Told("How exact are the devices?", (
        f"Programming error, drift and read noise of {len(names)} memory devices, each within the conductances and "
        f"ages that its source covers: {', '.join(names)}."))
