"""What the page of a measurement draws: its rows as charts whose numbers say themselves, with their intervals."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ep_hw.analysis.points import Estimate, estimate
from ep_hw.measurements.answers import Row, accuracy_of, transfer_told, with_interval
from ep_hw.measurements.devices import DEVICES, age_name
from ep_hw.measurements.events import sent_by_sweep, threshold_name
from ep_hw.measurements.landscape import Slice
from ep_hw.measurements.uncertainty import SMALL, Uncertainty
from ep_hw.report.drawings import looks_of
from ep_hw.report.figures.charts import Curve, Look, Value, curves_chart, heat_chart
from ep_hw.report.figures.scales import PERCENT, POINT, Scale, decades, linear, strengths
from ep_hw.report.frame import Drawn
from ep_hw.report.wording import interval, percent

INK = Look(0, 0)
LEAST_EVENTS = 1.0   # where a logarithmic axis begins


def events_charts(rows: Sequence[Row], period: int) -> list[Drawn]:
    """Accuracy and agreement against events an image; and when the events are sent.

    Args:
        rows: from `EventPoint.row`, whole states first.
        period: time steps of a sweep.
    """
    return [_against_events(rows), _over_time(rows, period)]


def _against_events(rows: Sequence[Row]) -> Drawn:
    def at(row: Row, said: str, value: Estimate) -> tuple[float, Value]:
        return max(row["events"], LEAST_EVENTS), Value(value, f"{threshold_name(row['threshold'])}: {said}, "
                                                       f"{row['events']:.0f} events an image")

    def accurate(row: Row) -> tuple[float, Value]:
        return at(row, f"{with_interval(row)} right", accuracy_of(row))

    def agreeing(row: Row) -> tuple[float, Value]:
        return at(row, f"agrees with the reference on {percent(row['agreement'])}",
                  estimate([row["agreement"]], row["images"]))

    whole, held = rows[0], rows[1:]
    curves = [Curve("accuracy, whole states", INK, [accurate(whole)]),
              Curve("accuracy, by threshold", Look(1, 1), [accurate(row) for row in held]),
              Curve("agreement with the reference", Look(2, 2), [agreeing(row) for row in held], dashed=True)]
    ends = [value for curve in curves for _, one in curve.points for value in (one.estimate.low, one.estimate.high)]
    across = decades([max(row["events"], LEAST_EVENTS) for row in rows])
    alt = "; ".join(f"{threshold_name(row['threshold'])}: {row['events']:.0f} events, {percent(row['accuracy'])}"
                    for row in rows)
    return Drawn("Accuracy against events, percent", curves_chart(curves, across, _around(ends, POINT),
                                                                  "events an image", alt))


def _over_time(rows: Sequence[Row], period: int) -> Drawn:
    names = [threshold_name(row["threshold"]) for row in rows]
    looks = [INK, *list(looks_of(names[1:], "threshold").values())[1:]]
    curves = [Curve(name, look, [(period * n, _plain(sent, f"{name}, step {period * n}: {sent:.3g} events a sweep"))
                                 for n, sent in enumerate(sent_by_sweep(row["events_per_step"], period).tolist(), 1)
                                 if sent > 0], bare=True) for name, look, row in zip(names, looks, rows)]
    met = [value.estimate.value for curve in curves for _, value in curve.points] or [LEAST_EVENTS]
    last = max((step for curve in curves for step, _ in curve.points), default=period)
    alt = "; ".join(f"{curve.name}: the last after {curve.points[-1][0]:.0f} steps" for curve in curves if curve.points)
    return Drawn("When they are sent: events a sweep", curves_chart(curves, linear(0, last), decades(met), "time step",
                                                                    alt))


def gradients_charts(rows: Sequence[Row]) -> list[Drawn]:
    """Cosine to the adjoint and fraction of zero entries against beta; a chart a loss, a line a machine."""
    losses, names = (list(dict.fromkeys(row[key] for row in rows)) for key in ("loss", "machine"))
    looks = looks_of(names)
    cosines = _around([row[end] for row in rows for end in ("cosine_low", "cosine_high")])
    drawn = []
    for loss in losses:
        own = [row for row in rows if row["loss"] == loss]
        for title, value, up in ((f"{_spoken(loss)}: cosine to the adjoint", _cosine, cosines),
                                 (f"{_spoken(loss)}: entries that are zero, percent", _zeros, PERCENT)):
            curves = [Curve(name, looks[name], [(row["beta"], value(row)) for row in own if row["machine"] == name])
                      for name in names]
            drawn.append(Drawn(title, curves_chart(curves, strengths([row["beta"] for row in own]), up,
                                                   "strength of the nudge, beta", _alt(curves))))
    return drawn


def _spoken(loss: str) -> str:
    return loss.replace("_", "-").capitalize()


def _cosine(row: Row) -> Value:
    return Value(Estimate(row["cosine"], row["cosine_low"], row["cosine_high"]),
                 f"{row['machine']}, beta {row['beta']:g}: median cosine {row['cosine']:.2f} "
                 f"[{row['cosine_low']:.2f}, {row['cosine_high']:.2f}]")


def _zeros(row: Row) -> Value:
    return _plain(row["zero_entries"], f"{row['machine']}, beta {row['beta']:g}: {percent(row['zero_entries'])} of "
                  "entries are zero")


def uncertainty_charts(curves: Sequence[Uncertainty]) -> list[Drawn]:
    """Chance of another prediction against the size of the perturbation, both logarithmic; a line a machine.

    Intervals are over images, as if the draws of an image changed it together: never too narrow.
    """
    least = min(1 / (curve.draws * len(curve.changed)) for curve in curves)
    looks = looks_of([curve.machine for curve in curves])
    lines = [Curve(_fitted(curve), looks[curve.machine], list(_changes(curve, least))) for curve in curves]
    sizes = curves[0].sizes
    limit = Curve("fitted below", INK, [(size, _plain(SMALL, f"fitted below {percent(SMALL)}"))
                                        for size in (sizes[0], sizes[-1])], dashed=True, bare=True)
    ends = [end for line in lines for _, value in line.points for end in (value.estimate.low, value.estimate.high)]
    return [Drawn("Predictions changed, percent", curves_chart(
        [*lines, limit], decades(sizes), decades([*ends, SMALL], POINT), "size of a random perturbation, l2",
        _alt(lines)))]


def _changes(curve: Uncertainty, least: float) -> Iterator[tuple[float, Value]]:
    """Sizes at which anything changed; intervals end where a logarithmic axis can show them."""
    for row in curve.rows():
        share = estimate([row["changed"]], row["images"])
        if row["changed"] > 0:
            yield row["size"], Value(Estimate(share.value, max(share.low, least), share.high), (
                f"{curve.machine}, size {row['size']:g}: {percent(share.value)} {interval(share)} of predictions "
                f"change, {row['images']} images, {row['draws']} draws each"))


def _fitted(curve: Uncertainty) -> str:
    return curve.machine if curve.alpha is None else (f"{curve.machine}: alpha {curve.alpha:.2f} "
                                                      f"({curve.low:.2f} to {curve.high:.2f})")


def transfer_charts(rows: Sequence[Row]) -> list[Drawn]:
    """Sources down, targets across, shaded by accuracy from 0 to 100 percent."""
    names = list(dict.fromkeys(row["source"] for row in rows))
    cells = {(names.index(row["source"]), names.index(row["target"])): Value(accuracy_of(row), (
        f"made on {row['source']}, shown to {row['target']}: {with_interval(row)}, {row['images']} images"))
        for row in rows}
    return [Drawn(f"Accuracy under {rows[0]['threat']} at {rows[0]['strength']:g}, percent", heat_chart(
        names, names, cells, ("made on", "shown to"), (0, 1), transfer_told(rows).answer))]


def eot_charts(rows: Sequence[Row]) -> list[Drawn]:
    """Cosine and robust accuracy against the number of gradients averaged."""
    def cosine(row: Row) -> Value:
        return Value(Estimate(row["cosine"], row["cosine_low"], row["cosine_high"]),
                     f"{row['draws']} gradients: median cosine {row['cosine']:.2f} [{row['cosine_low']:.2f}, "
                     f"{row['cosine_high']:.2f}]")

    def accuracy(row: Row) -> Value:
        return Value(accuracy_of(row), f"{row['draws']} gradients: {with_interval(row)}, {row['images']} images")

    cosines = _around([row[end] for row in rows for end in ("cosine_low", "cosine_high")])
    ends = _around([row[end] for row in rows for end in ("ci_low", "ci_high")], POINT)
    return [_along_draws("Cosine to the mean over many", rows, cosine, cosines, Look(1, 1)),
            _along_draws(f"Accuracy under pgd_l2 at {rows[0]['eps']:g}, percent", rows, accuracy, ends, Look(2, 2))]


def _along_draws(title: str, rows: Sequence[Row], value: Callable[[Row], Value], up: Scale,
                 look: Look) -> Drawn:
    curve = Curve(rows[0]["machine"], look, [(row["draws"], value(row)) for row in rows])
    return Drawn(title, curves_chart([curve], strengths([row["draws"] for row in rows]), up, "gradients averaged",
                                     _alt([curve])))


def slice_charts(slices: Sequence[Slice]) -> list[Drawn]:
    """The loss over both directions; a map a machine, one shade for all, the image in the middle."""
    limits = min(one.loss.min() for one in slices), max(one.loss.max() for one in slices)
    return [_loss_map(one, limits) for one in slices]


def _loss_map(one: Slice, limits: tuple[float, float]) -> Drawn:
    last, names = len(one.places) - 1, [f"{place:.2g}".replace("-", "\u2212") for place in one.places.tolist()]
    cells = {(last - i, j): _plain(float(loss), f"{one.machine}, {names[i]} along {one.gradient} and {names[j]} at "
                                   f"random: cross-entropy {loss:.3g}") for (i, j), loss in np.ndenumerate(one.loss)}
    drawn = heat_chart(names[::-1], names, cells, (one.gradient, "random"), limits, (
        f"Loss on {one.machine}, from {one.loss.min():.3g} to {one.loss.max():.3g}"), "{:.2f}".format)
    return Drawn(f"{one.machine}: cross-entropy, l2 distances", drawn)


def devices_charts(rows: Sequence[Row]) -> list[Drawn]:
    """Programming error, error at several ages and noise of each device; bands hold 95 % of the devices."""
    return [drawn for name in dict.fromkeys(row["device"] for row in rows)
            for drawn in _device([row for row in rows if row["device"] == name])]


def _device(rows: Sequence[Row]) -> Iterator[Drawn]:
    ages = sorted({row["age_s"] for row in rows})
    name, last = rows[0]["device"], [row for row in rows if row["age_s"] == ages[-1]]
    looks = list(looks_of(list(map(age_name, ages)), "age").values())[1:]
    yield _spreads(f"{name}: programming error, \u00b5S", [_spread("as programmed", Look(1, 1), last,
                                                                   "programming_error")])
    yield _spreads(f"{name}: error after drift, \u00b5S", [
        _spread(age_name(age), look, [row for row in rows if row["age_s"] == age], "aged_error")
        for age, look in zip(ages, looks)])
    if any(row["slow_noise_median_us"] or row["fresh_noise_median_us"] for row in last):
        yield _spreads(f"{name}: read noise after {age_name(ages[-1])}, standard deviation, \u00b5S", [
            _spread("frozen", Look(2, 2), last, "slow_noise"),
            _spread("new at every read", Look(3, 3), last, "fresh_noise")])


def _spread(name: str, look: Look, rows: Sequence[Row], kind: str) -> Curve:
    def value(row: Row) -> Value:
        low, median, high = (row[f"{kind}_{end}_us"] for end in ("low", "median", "high"))
        said = (f"{name}, target {row['target_us']:.3g} \u00b5S: median {median:.3g}, 95 % of {DEVICES} devices within "
                f"{low:.3g} to {high:.3g} \u00b5S")
        return Value(Estimate(median, low, high), said.replace("-", "\u2212"))

    return Curve(name, look, [(row["target_us"], value(row)) for row in rows], bare=True)


def _spreads(title: str, curves: Sequence[Curve]) -> Drawn:
    values = [value.estimate for curve in curves for _, value in curve.points]
    targets = [target for curve in curves for target, _ in curve.points]
    up = _around([end for one in values for end in (one.low, one.high)])
    return Drawn(title, curves_chart(curves, linear(min(targets), max(targets)), up, "target conductance, \u00b5S",
                                     title, bands=True))


def _plain(value: float, tip: str) -> Value:
    """A number without an interval."""
    return Value(Estimate(value, value, value), tip)


def _around(values: Sequence[float], unit: float = 1.0) -> Scale:
    """An axis that fits numbers, with a little room."""
    room = 0.06 * (max(values) - min(values)) or 0.05
    return linear(min(values) - room, max(values) + room, unit)


def _alt(curves: Sequence[Curve]) -> str:
    """The ends of every curve in words."""
    return "; ".join(f"{curve.points[0][1].tip}, {curve.points[-1][1].tip}" for curve in curves if curve.points)
