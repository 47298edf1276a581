"""The page of finished runs side by side: what differs, image by image, and means over runs."""

from collections.abc import Callable, Mapping, Sequence

from markupsafe import Markup

from ep_hw.analysis.points import Estimate
from ep_hw.networks.gains import gain_text
from ep_hw.report.drawings import looks_of
from ep_hw.report.figures.charts import Row, Value, rows_chart
from ep_hw.report.figures.scales import Scale, fitting
from ep_hw.report.frame import Drawn
from ep_hw.report.story import Story
from ep_hw.report.wording import interval, is_open, percent, points_of
from mapping.program import Table

Numbers = Mapping[str, Sequence[dict]]   # rows of "networks" and, where asked, "paired", "over_runs" and "corruptions"


def story_of(numbers: Numbers, tables: Sequence[Table], runs: Sequence[str], command: str) -> Story:
    """The page.

    Args:
        numbers: what was compared.
        tables: the same as it is printed.
        runs: names of the runs, in order.
        command: that compared them.
    """
    paired, over = numbers.get("paired", ()), numbers.get("over_runs", ())
    pictures = [*([_differences(paired)] if paired else []), *([_means(over)] if over else [])]
    return Story(title=f"{' and '.join(runs)}, side by side", answer=answer(numbers), pictures=pictures, tables=tables,
                 facts=[("runs", ", ".join(runs)), *_gains(numbers), ("intervals", "95 %")], command=command)


def _gains(numbers: Numbers) -> list[tuple[str, str]]:
    """The feedback gain of each network, where one has any."""
    gains = [gain_text(row["feedback_gain"]) for row in numbers.get("networks", ())]
    return [("feedback gains", ", ".join(gain or "none" for gain in gains))] if any(gains) else []


def answer(numbers: Numbers) -> str:
    """Where two runs differ most, or how far the means over several reach."""
    if paired := numbers.get("paired"):
        clear = [row for row in paired if not is_open(_difference(row))]
        if not clear:
            return f"On the images that both runs saw, this sample shows no difference in any of {len(paired)} cases."
        most = max(clear, key=lambda row: abs(row["difference"]))
        return (f"The second run differs visibly from the first in {len(clear)} of {len(paired)} cases, most on "
                f"{_case(most)}: {points_of(most['difference'])} points {interval(_difference(most))}.")
    if over := numbers.get("over_runs"):
        low, high = (end(over, key=lambda row: row["mean"]) for end in (min, max))
        return (f"Over {over[0]['runs']} runs the mean accuracy is at best {percent(high['mean'])} "
                f"{interval(_mean(high))}, on {_case(high)}, and at worst {percent(low['mean'])} "
                f"{interval(_mean(low))}, on {_case(low)}.")
    best = min(numbers["corruptions"], key=lambda row: row["mce"])
    return f"The least mCE is {best['mce']:.3f}, of {best['model']} on {best['machine_label']}."


def _case(row: dict) -> str:
    return f"{row['machine_label']} under {row['threat_label']}"


def _difference(row: dict) -> Estimate:
    return Estimate(row["difference"], row["ci_low"], row["ci_high"])


def _mean(row: dict) -> Estimate:
    return Estimate(row["mean"], max(0.0, row["ci_low"]), min(1.0, row["ci_high"]))


def _differences(rows: Sequence[dict]) -> Drawn:
    """Second minus first, in points; rows in the order of the cases."""
    ends = [end for row in rows for end in (row["ci_low"], row["ci_high"], 0.0)]
    return Drawn("Second run less the first", _rows(rows, _difference, points_of, fitting(ends, within=(-1.0, 1.0)),
                                                    "difference, points"))


def _means(rows: Sequence[dict]) -> Drawn:
    ends = [end for row in rows for end in (_mean(row).low, _mean(row).high)]
    return Drawn("Mean over runs", _rows(rows, _mean, percent, fitting(ends), "accuracy, %"))


def _rows(rows: Sequence[dict], estimate: Callable[[dict], Estimate], spell: Callable[[float], str], scale: Scale,
          label: str) -> Markup:
    looks = looks_of(list(dict.fromkeys(row["machine_label"] for row in rows)))
    own = [(row, estimate(row)) for row in rows]
    lines = [Row(row["machine_label"], [Value(one, f"{_case(row)}: {spell(one.value)} {interval(one)}")],
                 looks[row["machine_label"]], spell(one.value), row["threat_label"]) for row, one in own]
    return rows_chart(lines, "; ".join(f"{_case(row)} {spell(one.value)}" for row, one in own), scale, label=label)
