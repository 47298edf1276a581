"""The page of a study: its question, what the swept options do to accuracy, and the pictures that show it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ep_hw.analysis.points import Estimate, Points, change
from ep_hw.analysis.series import ladders, strongest
from ep_hw.evaluation.rungs import named, rungs_of
from ep_hw.report import wording
from ep_hw.report.drawings import Drawings, looks_of
from ep_hw.report.figures.charts import Curve, Look, Row, Value, curves_chart, heat_chart, legend_of, rows_chart
from ep_hw.report.figures.scales import Scale, fitting, ordered
from ep_hw.report.frame import Drawn
from ep_hw.report.story import Story
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.order import Interaction
from ep_hw.studies.study import Study, called
from ep_hw.threats.threat import Threat
from mapping.program import Table
from mapping.registry import Rungs, parse

Setting = tuple[tuple[str, str], ...]   # options with the texts of their values
Looks = dict[str, Look]


@dataclass(frozen=True)
class Effect:
    """What an option does to one technology under one threat, from its first value to its last, all else alike.

    Attributes:
        option: that was swept.
        ends: its first and its last value, in order.
        technology: what it is called.
        threat: that both met.
        accuracies: at both ends.
        change: from the first to the last.
    """

    option: str
    ends: tuple[str, str]
    technology: str
    threat: Threat
    accuracies: tuple[float, float]
    change: Estimate

    @property
    def is_open(self) -> bool:
        """Whether the sample cannot tell it from none."""
        return wording.is_open(self.change)

    def __str__(self):
        first, last = map(wording.percent, self.accuracies)
        return (f"{self.technology} under {wording.threat_name(self.threat)}, {self.option.replace('_', ' ')} from "
                f"{self.ends[0]} to {self.ends[1]}: {first} to {last} ({wording.points_of(self.change.value)} points "
                f"{wording.interval(self.change)})")


def effects(study: Study, rows: Sequence[dict], points: Points) -> list[Effect]:
    """Of every option, technology and threat, at the first setting of the other options that has both ends."""
    return [effect for option in study.options()
            for effect in _effects(study, SweptAxis.of(option, rows), rows, points)]


def _effects(study: Study, axis: SweptAxis, rows: Sequence[dict], points: Points) -> Iterator[Effect]:
    others = [name for name in study.options() if name != axis.option]
    groups: dict[tuple[str, Threat], dict[Setting, list[dict]]] = {}
    for row in rows:
        own = groups.setdefault((row["technology"], row["threat"]), {})
        own.setdefault(_setting(row, others), []).append(row)
    for (technology, threat), settings in groups.items():
        swept = next((sorted(own, key=axis.place) for own in settings.values() if len(own) > 1), None)
        if swept is not None:
            first, last = (points[row["machine"], threat] for row in (swept[0], swept[-1]))
            yield Effect(axis.option, (swept[0][axis.option], swept[-1][axis.option]), technology, threat,
                         (first.accuracy.value, last.accuracy.value), change(first, last))


def _setting(row: dict, options: Sequence[str]) -> Setting:
    return tuple((name, row[name]) for name in options)


def answer(found: Sequence[Effect]) -> str:
    """Where the swept options change most, and how often this sample shows that they do anything."""
    if not found:
        return "Nothing was swept: the machines stand side by side."
    clear = sorted((effect for effect in found if not effect.is_open), key=lambda effect: -abs(effect.change.value))
    if not clear:
        widest = max(max(abs(effect.change.low), abs(effect.change.high)) for effect in found)
        return (f"From its first to its last value no option changes accuracy visibly on this sample, in any "
                f"of {len(found)} comparisons: all changes are within {100 * widest:.0f} points.")
    return (f"Accuracy changes visibly in {len(clear)} of {len(found)} comparisons of an option's first with its last "
            f"value, most for {clear[0]}.")


def story_of(study: Study, rows: Sequence[dict], points: Points,
             interactions: Mapping[tuple[str, Threat], Sequence[Interaction]], table: Table, command: str) -> Story:
    """The page of a study.

    Args:
        study: what was asked.
        rows: its answer, see `ep_hw.studies.execution.rows_of`.
        points: pooled summary of everything that was run.
        interactions: (technology, threat) -> causes in two orders.
        table: of the rows.
        command: that made it.
    """
    options, technologies = study.options(), list(dict.fromkeys(row["technology"] for row in rows))
    looks, axes = looks_of(technologies), [SweptAxis.of(option, rows) for option in options]
    names = [(look.key, name) for name, look in looks.items() if name in technologies and look.key is not None]
    maps = _maps(rows, axes[0], axes[1], looks) if len(options) > 1 else []
    curves = [] if not options else _by_technology(rows, axes[0], looks) if len(options) == 1 else _by_setting(
        rows, axes[0], options[1:], looks)
    pictures = curves if len(options) == 1 else maps if maps else [_side_by_side(rows, looks)]
    return Story(
        title=study.title, answer=answer(effects(study, rows, points)), pictures=pictures, tables=[table],
        command=command, facts=_held(study), switches=[("machine", names)] if len(names) > 1 else [],
        sections=[("Where the accuracy goes", waterfalls(study, points, looks)),
                  ("Along the first option", curves if len(options) > 1 else []),
                  ("Causes in both orders", [_orders(*case, causes, looks) for case, causes in interactions.items()])])


def _held(study: Study) -> list[tuple[str, str]]:
    """What was the same everywhere."""
    swept = "; ".join(f"{name} {', '.join(dict.fromkeys(o[name] for o in study.combinations() if name in o))}"
                      for name in study.options())
    return [("swept", swept or "nothing"), ("network", study.model), ("machines", ", ".join(study.machines)),
            ("threats", ", ".join(["clean", *study.threats])),
            ("based on", f"{study.images} images, {study.chips} chips of machines that have chips, seed {study.seed}"),
            ("noisy machines", f"majority over {study.attack.votes} reads"),
            ("intervals", "95 %, the wider over images and over chips")]


def _value(row: dict) -> Value:
    estimate = Estimate(row["accuracy"], row["ci_low"], row["ci_high"])
    chips = f", {row['chips']} chips" if row["chips"] else ""
    return Value(estimate, f"{row['machine']}, {row['threat'].label}: {wording.percent(estimate.value)} "
                 f"{wording.interval(estimate)}, {row['images']} images{chips}")


def _side_by_side(rows: Sequence[dict], looks: Looks) -> Drawn:
    """Machines without a swept option, each under every threat."""
    machines = list(dict.fromkeys(row["technology"] for row in rows))
    lines = [Row(name, [_value(row)], looks[name], wording.short_percent(row["accuracy"]), row["threat"].label)
             for name in machines for row in rows if row["technology"] == name]
    alt = "; ".join(f"{line.name}, {line.note}: {line.written} %" for line in lines)
    return Drawn("Accuracy", rows_chart(lines, alt))


def _by_technology(rows: Sequence[dict], axis: SweptAxis, looks: Looks) -> list[Drawn]:
    """A chart a threat, a line a technology."""
    groups = [(threat.label, [(name, looks[name], [r for r in rows if (r["technology"], r["threat"]) == (name, threat)])
                              for name in looks]) for threat in dict.fromkeys(row["threat"] for row in rows)]
    return [_curves(title, lines, axis, rows) for title, lines in groups]


def _by_setting(rows: Sequence[dict], axis: SweptAxis, others: Sequence[str], looks: Looks) -> list[Drawn]:
    """A chart a technology and threat, a line a setting of the other options."""
    settings = list(dict.fromkeys(_setting(row, others) for row in rows))
    shown = looks_of([", ".join(f"{name} {text}" for name, text in one) for one in settings], "setting")
    drawn = []
    for name, look in looks.items():
        for threat in dict.fromkeys(row["threat"] for row in rows if row["technology"] == name):
            own = [row for row in rows if (row["technology"], row["threat"]) == (name, threat)]
            lines = [(label, shown[label], [r for r in own if _setting(r, others) == one])
                     for label, one in zip(list(shown)[1:], settings)]
            drawn.append(_curves(f"{name}, {threat.label}", lines, axis, rows, look.key))
    return drawn


def _curves(title: str, lines: Sequence[tuple[str, Look, Sequence[dict]]], axis: SweptAxis, rows: Sequence[dict],
            machine: int | None = None) -> Drawn:
    across = _across(axis)
    lines = [(name, look, sorted(own, key=axis.place)) for name, look, own in lines if own]
    curves = [Curve(name, look, [(axis.places.index(axis.place(row)), _value(row)) for row in own])
              for name, look, own in lines]
    up = fitting([end for row in rows for end in (row["ci_low"], row["ci_high"])])
    alt = "; ".join(f"{name}: " + ", ".join(f"{wording.percent(r['accuracy'])} at {r[axis.option]}" for r in own)
                    for name, _, own in lines)
    return Drawn(title, curves_chart(curves, across, up, axis.label, f"Accuracy along {axis.label}, {title}. {alt}.",
                                     bands=len(curves) <= 3), machine=machine)


def _across(axis: SweptAxis) -> Scale:
    """The values that were run, at equal distances in their order: ages span ten decades."""
    return ordered(axis.values)


def _maps(rows: Sequence[dict], across: SweptAxis, up: SweptAxis, looks: Looks) -> list[Drawn]:
    """A map a technology and threat, both options in order; the largest value of the second on top."""
    limits = min(row["accuracy"] for row in rows), max(row["accuracy"] for row in rows)
    down = tuple(reversed(up.values)) if up.is_number else up.values
    return [_map(name, look, threat, [r for r in rows if (r["technology"], r["threat"]) == (name, threat)], across,
                 up, down, limits)
            for name, look in looks.items()
            for threat in dict.fromkeys(row["threat"] for row in rows if row["technology"] == name)]


def _map(name: str, look: Look, threat: Threat, rows: Sequence[dict], across: SweptAxis, up: SweptAxis,
         down: Sequence[str], limits: tuple[float, float]) -> Drawn:
    cells = {(down.index(str(row[up.option])), across.values.index(str(row[across.option]))): _value(row)
             for row in reversed(rows)}
    best, worst = (end(rows, key=lambda row: row["accuracy"]) for end in (max, min))
    alt = (f"{name} under {wording.threat_name(threat)}: accuracy over {across.label} and {up.label}, from "
           f"{wording.percent(worst['accuracy'])} to {wording.percent(best['accuracy'])}")
    drawn = heat_chart(down, across.values, cells, (up.label, across.label), limits, alt)
    return Drawn(f"{name}, {threat.label}", drawn, machine=look.key)


def waterfalls(study: Study, points: Points, looks: Looks) -> list[Drawn]:
    """Of each technology and threat, with the causes in the ladder's order; nothing where none were run."""
    drawings = Drawings(looks, {})
    return [Drawn(f"{technology}: {wording.threat_name(ladder.threat)}", drawings.waterfall(ladder),
                  wording.largest_loss(ladder), looks[technology].key if technology in looks else None)
            for technology, rungs in _rungs(study) for ladder in strongest(ladders(points, {technology: named(rungs)}))]


def _rungs(study: Study) -> list[tuple[str, Rungs]]:
    machines = [(called(machine), rungs_of(parse(machine))) for machine in study.machines] if study.waterfalls else []
    return [(technology, rungs) for technology, rungs in machines if len(rungs) > 1]


def _orders(technology: str, threat: Threat, causes: Sequence[Interaction], looks: Looks) -> Drawn:
    """What each cause takes when it comes after those above it, and when it comes after those below; the difference
    behind it.
    """
    look, both = Look(1, 1), (("added after those above", False), ("added after those below", True))
    rows = [Row(one.cause, [Value(own, f"{one.cause}, {said}: {wording.points_of(own.value)} points "
                                  f"{wording.interval(own)}", hollow)
                            for own, (said, hollow) in zip((one.forward, one.reverse), both)], look,
                wording.points_of(one.interaction.value)) for one in causes]
    scale = fitting([end for one in causes for own in (one.forward, one.reverse)
                     for end in (own.low, own.high, 0.0)], within=(-1.0, 1.0))
    alt = "; ".join(f"{one.cause}: interaction {wording.points_of(one.interaction.value)} points "
                    f"{wording.interval(one.interaction)}" for one in causes)
    legend = legend_of([(said, look, hollow) for said, hollow in both])
    drawn = rows_chart(rows, alt, scale, legend, "change of accuracy, points; right: first less second")
    return Drawn(f"{technology}, {threat.label}", drawn, alt,
                 looks[technology].key if technology in looks else None)
