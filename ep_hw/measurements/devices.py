"""What device presets do to conductances: programming error, drift and read noise, as spreads over many devices."""

from collections.abc import Iterator

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ep_hw.report.figures.plots import COLOURS, INK, RC
from mapping.crossbar.presets import PRESETS, Preset
from mapping.errors import Refusal
from mapping.names import suggesting
from mapping.program import Table
from simulators.crossbar.devices import Frozen
from simulators.crossbar.models import preset_model

Colour = str | np.ndarray   # a name, or red, green, blue and alpha
TARGETS = 25            # conductances, from g_min to g_max
DEVICES = 4000          # programmed to each
RELAXATION_S = 1e-3
AGES_S = (3600.0, 86400.0, 31557600.0)
_INTERVAL = (0.025, 0.5, 0.975)


def measured_presets(names: list[str]) -> list[Preset]:
    """The presets that were asked for, all with errors of their own if none was.

    Raises:
        Refusal: an unknown preset.
    """
    known = {name: p for name, p in PRESETS.items() if p.constants}
    if unknown := [name for name in names if name not in known]:
        raise Refusal("unknown device", where="devices", got=repr(unknown[0]), **suggesting(
            unknown[0], known, remedy="choose some of these, or none for all"))
    return [known[name] for name in names or known]


def device_table(presets: list[Preset]) -> Table:
    """One line a preset: conductances, ages and errors that its source covers."""
    rows = tuple((p.name, f"{p.g_min_us:.3g} to {p.g_max_us:g}", " to ".join(map(age_name, p.age_domain_s)),
                  ", ".join(p.causes), p.title, p.source) for p in presets)
    return Table("devices", ("name", "g, uS", "ages", "errors", "what it is", "source"), rows,
                 ("a machine each, crossbar:NAME; crossbar:ideal and crossbar:generic have no data of their own",))


def ages_of(preset: Preset) -> tuple[float, ...]:
    """Ages to show: the first of the preset's data, those of AGES_S that they cover, and where they end before."""
    first, last = preset.age_domain_s
    return tuple(sorted({first, *(a for a in AGES_S if first < a < last), min(last, AGES_S[-1])}))


def age_name(seconds: float) -> str:
    """An age in its largest unit, to three digits."""
    units = {"y": 31557600.0, "d": 86400.0, "h": 3600.0, "s": 1.0}
    unit = next((name for name, size in units.items() if seconds >= size), "s")
    return f"{seconds / units[unit]:.3g} {unit}"


def measure_devices(presets: list[Preset], seed: int) -> Iterator[dict]:
    """A row a preset, target and age: medians and 95 % intervals of DEVICES devices' errors and standard deviations of
    their noise; microsiemens and seconds."""
    for preset in presets:
        model = preset_model(preset)
        generator = torch.Generator().manual_seed(seed)
        target = torch.linspace(preset.g_min_us, preset.g_max_us, TARGETS, dtype=torch.float64).repeat(DEVICES, 1)
        frozen = Frozen(*torch.randn(2, *target.shape, generator=generator, dtype=torch.float64))
        programmed = model.program(target, frozen)
        for age_s in ages_of(preset):
            aged = model.drift(programmed, target, age_s, frozen) if "aged" in preset.causes else programmed
            slow = model.slow_sigma_us(aged, programmed, age_s, RELAXATION_S)
            fresh = model.fresh_sigma_us(aged, programmed, RELAXATION_S)
            spreads = {"programming_error": programmed - target,
                       "aged_error": aged.clamp(*model.limits_us) - target, "slow_noise": slow, "fresh_noise": fresh}
            yield from _rows(preset.name, age_s, target[0].tolist(), spreads)


def _rows(name: str, age_s: float, targets_us: list[float], spreads: dict):
    quantiles = {kind: _quantiles(values) for kind, values in spreads.items()}
    for n, g_us in enumerate(targets_us):
        yield {"device": name, "age_s": age_s, "target_us": g_us} | {
            f"{kind}_{end}_us": q for kind, ends in quantiles.items()
            for end, q in zip(("low", "median", "high"), ends[:, n].tolist())}


def _quantiles(errors: torch.Tensor) -> torch.Tensor:
    return torch.quantile(errors, torch.tensor(_INTERVAL, dtype=errors.dtype), dim=0)


def devices_figure(rows: list[dict]) -> Figure:
    """A row of panels a device: programming error, error at several ages, noise; lines are medians, bands hold 95 % of
    the devices."""
    names = list(dict.fromkeys(row["device"] for row in rows))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(11.0, 0.6 + 1.9 * len(names)), layout="constrained")
        panels = figure.subplots(len(names), 3, squeeze=False, sharex="row")
        for name, (left, middle, right) in zip(names, panels):
            own = [row for row in rows if row["device"] == name]
            by_age = {age: [row for row in own if row["age_s"] == age] for age in sorted({r["age_s"] for r in own})}
            last = next(reversed(by_age.values()))
            _band(left, last, "programming_error", COLOURS[0], None)
            for (age, group), shade in zip(by_age.items(), _shades(len(by_age))):
                _band(middle, group, "aged_error", shade, age_name(age))
            _noise(right, last)
            left.set_ylabel(f"{name}\nerror, uS")
            _legend(middle, "age")
            for axes in (left, middle, right):
                axes.axhline(0, color=INK, lw=0.6, alpha=0.5)
                axes.grid()
        for axes, title in zip(panels[0], ("programming error", "error after drift", "read noise, standard deviation")):
            axes.set_title(title, loc="left", fontsize=10, weight="bold")
        for axes in panels[-1]:
            axes.set_xlabel("target conductance, uS")
        figure.supxlabel(f"lines: medians; bands: 95 % of {DEVICES} devices", x=0.01, ha="left", fontsize=8)
    return figure


def _shades(count: int) -> np.ndarray:
    return matplotlib.colormaps["viridis"](np.linspace(0, 0.8, count))


def _band(axes: Axes, rows: list[dict], kind: str, colour: Colour, label: str | None):
    x, low, middle, high = ([row[key] for row in rows] for key in (
        "target_us", *(f"{kind}_{end}_us" for end in ("low", "median", "high"))))
    axes.fill_between(x, low, high, color=colour, alpha=0.18, lw=0)
    for end in (low, high):
        axes.plot(x, end, color=colour, lw=0.6, alpha=0.7)
    axes.plot(x, middle, color=colour, label=label)


def _noise(axes: Axes, rows: list[dict]):
    if not any(row["slow_noise_median_us"] or row["fresh_noise_median_us"] for row in rows):
        axes.text(0.5, 0.5, "none published", transform=axes.transAxes, ha="center")
        axes.set_yticks([])
        return
    _band(axes, rows, "slow_noise", COLOURS[1], "frozen")
    _band(axes, rows, "fresh_noise", COLOURS[2], "new at every read")
    _legend(axes, f"after {age_name(rows[0]['age_s'])}")


def _legend(axes: Axes, title: str):
    axes.legend(frameon=False, fontsize=8, title=title, title_fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5),
                alignment="left")
