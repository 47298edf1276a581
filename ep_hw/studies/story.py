"""The page of a study: its question, what the swept options do to accuracy, and the pictures that show it."""

from collections.abc import Mapping, Sequence

from ep_hw.analysis.points import Estimate, Points
from ep_hw.analysis.series import ladders, strongest
from ep_hw.evaluation.rungs import named, rungs_of
from ep_hw.report import wording
from ep_hw.report.drawings import Drawings, looks_of
from ep_hw.report.figures.charts import Curve, Look, Row, Value, curves_chart, heat_chart, legend_of, rows_chart
from ep_hw.report.figures.scales import Scale, fitting, ordered
from ep_hw.report.frame import Drawn
from ep_hw.report.story import Story
from ep_hw.studies.axes import SweptAxis
from ep_hw.studies.effects import answer, effects, effects_table, setting_of
from ep_hw.studies.order import Interaction
from ep_hw.studies.study import Study, called
from ep_hw.threats.threat import Threat
from mapping.program import Table
from mapping.registry import Rungs, parse

Looks = dict[str, Look]


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
    curves = [] if not options else _by_technology(rows, axes[0], looks) if len(options) == 1 else _bysetting_of(
        rows, axes[0], options[1:], looks)
    found = effects(study, rows, points)
    pictures = curves if len(options) == 1 else maps if maps else [_side_by_side(rows, looks)]
    return Story(
        title=study.title, answer=answer(found), pictures=pictures,
        tables=[*([effects_table(found)] if found else []), table],
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
            ("based on", f"{_counted(study.images, 'image')}, {_counted(study.chips, 'chip')} of machines that have "
                         f"chips, seed {study.seed}"),
            ("noisy machines", f"majority of {_counted(study.attack.votes, 'read')}"),
            ("intervals", "95 %, the wider over images and over chips")]


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


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


def _bysetting_of(rows: Sequence[dict], axis: SweptAxis, others: Sequence[str], looks: Looks) -> list[Drawn]:
    """A chart a technology and threat, a line a setting of the other options."""
    settings = list(dict.fromkeys(setting_of(row, others) for row in rows))
    shown = looks_of([", ".join(f"{name} {text}" for name, text in one) for one in settings], "setting")
    drawn = []
    for name, look in looks.items():
        for threat in dict.fromkeys(row["threat"] for row in rows if row["technology"] == name):
            own = [row for row in rows if (row["technology"], row["threat"]) == (name, threat)]
            lines = [(label, shown[label], [r for r in own if setting_of(r, others) == one])
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
