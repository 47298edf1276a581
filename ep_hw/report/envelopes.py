"""Adversarial success on every platform, network by network: the answer in words, tables, figures and rows.

A platform's mean success is that over all attacks, efforts and strengths, image by image; differences are paired over
the images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ep_hw.analysis import lammie
from ep_hw.analysis.points import Estimate, estimate
from ep_hw.evaluation.envelope import Met, Platform, running_largest
from ep_hw.evaluation.matched_noise import Matched
from ep_hw.networks.family import NOISE_TRAINED
from ep_hw.networks.gains import Gain, gains_said
from ep_hw.report.drawings import looks_of
from ep_hw.report.entry import lead
from ep_hw.report.figures.charts import Curve, Look, Value, curves_chart
from ep_hw.report.figures.envelope import envelope_figure
from ep_hw.report.figures.scales import PERCENT, strengths
from ep_hw.report.frame import Drawn
from ep_hw.report.noises import noise_answers, noise_rows, noise_table
from ep_hw.report.record import Envelopes, Exhibit
from ep_hw.report.wording import apart, interval, percent, short_percent
from ep_hw.threats.registry import ATTACKS
from mapping.program import Table
from mapping.targets import REFERENCE

FLOAT, RETRAINED = "float", "retrained float"


@dataclass(frozen=True, eq=False)
class Measured:
    """One network's adversarial success.

    Attributes:
        kind: as the paper calls networks of its kind; that of a noise-trained one says so.
        model: the network's name.
        outcomes: platform -> what it made of every attack.
        noises: what sources of noise came to, no noise first; empty where none were compared.
        gain: of its feedback, None where it is no EP network.
    """

    kind: str
    model: str
    outcomes: Mapping[Platform, Sequence[Met]]
    noises: Sequence[Matched] = ()
    gain: Gain | None = None


@dataclass(frozen=True, eq=False)
class Success:
    """What a platform is worth, of a network and the one trained again from it together.

    Attributes:
        label: of the platform in tables.
        platform: the platform.
        model: the network that is on it.
        met: what it made of every attack.
    """

    label: str
    platform: Platform
    model: str
    met: Sequence[Met]

    @property
    def clean(self) -> float:
        """Accuracy on clean images."""
        return float(self.met[0].clean.mean())

    @property
    def attacks(self) -> dict[str, list[Met]]:
        """Kind of attack -> what was made of it."""
        return {kind: list(group) for kind, group in groupby(self.met, lambda met: met.threat.kind)}

    @property
    def by_image(self) -> NDArray[np.float64]:
        """(images,) parts of the mean success, every attack alike."""
        return np.mean([np.mean([met.by_image for met in group], axis=0) for group in self.attacks.values()], axis=0)

    @property
    def mean(self) -> float:
        """Mean success."""
        return float(self.by_image.mean())

    def above(self, other: "Success") -> Estimate:
        """How much more often attacks succeed here."""
        return lead(self.by_image[None], other.by_image[None])


def envelopes(measured: Sequence[Measured]) -> Envelopes:
    """Everything that is shown of what was measured, the networks in the order of their kinds."""
    networks = _platforms(measured)
    noises = {one.kind.removesuffix(NOISE_TRAINED): one.noises for one in measured if one.noises}
    platforms = [sentence for kind, ones in networks.items() for sentence in _answers(kind, ones)]
    gains = gains_said({one.model: one.gain for one in measured})
    return Envelopes(
        answers=(*platforms, *noise_answers(noises)),
        tables=(_table(networks, gains), *([noise_table(noises)] if noises else [])), exhibits=(_exhibit(networks),),
        rows={"envelope": [row for kind, ones in networks.items() for one in ones for row in _rows(kind, one)],
              "envelope-noise": noise_rows(noises)})


def _platforms(measured: Sequence[Measured]) -> dict[str, list[Success]]:
    """Kind -> its platforms: the network in floats, then the one that was trained again for the others."""
    networks: dict[str, list[Success]] = {}
    for one in sorted(measured, key=lambda one: one.kind.endswith(NOISE_TRAINED)):
        kind = one.kind.removesuffix(NOISE_TRAINED)
        floats = FLOAT if kind == one.kind else RETRAINED
        networks.setdefault(kind, []).extend(
            Success(floats if platform.machine == REFERENCE else str(platform), platform, one.model, met)
            for platform, met in one.outcomes.items())
    return networks


def _answers(kind: str, platforms: Sequence[Success]) -> list[str]:
    """On which platform attacks succeed least, and what attackers gain who hold the chip."""
    least, first = min(platforms, key=lambda one: one.mean), platforms[0]
    said = (f"{kind}: attacks succeed least on {least.label}, {percent(least.mean)} over all attacks, efforts and "
            "strengths")
    against = "" if least is first else f"; on {first.label} {percent(first.mean)}, {apart(least.above(first))}"
    return [f"{said}{against}.", *_holding_the_chip(kind, platforms)]


def _holding_the_chip(kind: str, platforms: Sequence[Success]) -> list[str]:
    """Of every machine that has chips."""
    own = {(one.platform.machine, one.platform.role): one for one in platforms}
    holders = [(machine, itself, own[machine, "chip"]) for (machine, role), itself in own.items()
               if role == "chip itself"]
    return [f"{kind}: attacks made on a chip of {machine} succeed {percent(itself.mean)} there, those made on its "
            f"model {percent(model.mean)}: holding the chip gains {apart(itself.above(model))}."
            for machine, itself, model in holders]


def _table(networks: Mapping[str, Sequence[Success]], gains: Sequence[str]) -> Table:
    """A row a platform and network: clean accuracy and success of attacks, beside what is printed."""
    every = [(one.label, kind, one) for kind, ones in networks.items() for one in ones]
    labels = list(dict.fromkeys(label for label, _, _ in every))
    attacks = list(dict.fromkeys(attack for _, _, one in every for attack in one.attacks))
    rows = tuple((label, kind, *_cells(one), _printed(one))
                 for label, kind, one in sorted(every, key=lambda row: labels.index(row[0])))
    notes = ("Percent. Clean: accuracy. Attacks: of the images classified rightly clean, the share that the attack "
             "turns wrong, mean over efforts and strengths; the mean is over attacks.",
             f"Printed: {lammie.SOURCE}, a ResNet9 on CIFAR-10, "
             f"{100 * lammie.DROP['model']:.2f} and {100 * lammie.DROP['chip']:.2f} points below its float network. "
             f"Its successes are curves without numbers; its text says: {'; '.join(lammie.FINDINGS.values())}.", *gains)
    columns = ("platform", "network", "clean", *attacks, "mean", "printed: clean")
    return Table("Adversarial success by platform", columns, rows, notes)


def _cells(one: Success) -> list[str]:
    means = [float(np.mean([met.success for met in group])) for group in one.attacks.values()]
    return [short_percent(value) for value in (one.clean, *means, one.mean)]


def _printed(one: Success) -> str:
    known = lammie.ACCURACY.get(one.platform.role)
    return "\u2013" if known is None else f"{100 * known:.2f}"


def _exhibit(networks: Mapping[str, Sequence[Success]]) -> Exhibit:
    curves = {kind: {one.label: {attack: _envelope(group) for attack, group in one.attacks.items()} for one in ones}
              for kind, ones in networks.items()}
    alt = "; ".join(f"{kind}, {one.label}: {percent(one.mean)}" for kind, ones in networks.items() for one in ones)
    looks = looks_of(list(dict.fromkeys(one.label for ones in networks.values() for one in ones)), "platform")
    return Exhibit("envelopes", "Envelopes of success over strength",
                   "The largest success at efforts and strengths up to each. Solid: all efforts; dotted: the least.",
                   f"Mean success: {alt}.", envelope_figure(curves), [
                       _chart(kind, attack, ones, looks) for kind, ones in networks.items()
                       for attack in ones[0].attacks])


def _chart(kind: str, attack: str, platforms: Sequence[Success], looks: Mapping[str, Look]) -> Drawn:
    """Platform by platform, as the figure has it; intervals are those of the attack that succeeds most."""
    curves = [curve for one in platforms for curve in _curves(one.label, one.attacks[attack], looks[one.label])]
    strengths_run = [strength for curve in curves for strength, _ in curve.points]
    alt = "; ".join(f"{curve.name}: {curve.points[-1][1].tip}" for curve in curves if not curve.dashed)
    return Drawn(f"{kind}, {attack}: success, percent", curves_chart(
        curves, strengths(strengths_run), PERCENT, ATTACKS[attack].strength.label, alt),
        "The largest success at efforts and strengths up to each. Solid: all efforts; dashed: the least.")


def _curves(label: str, met: Sequence[Met], look: Look) -> list[Curve]:
    efforts, at = sorted({one.effort for one in met}), sorted({one.threat.strength for one in met})
    return [Curve(name, look, [(strength, _most(label, said, met, effort, strength)) for strength in at], dashed)
            for name, said, effort, dashed in ((label, "all efforts", efforts[-1], False),
                                               (f"{label}, least effort", "least effort", efforts[0], True))
            if not dashed or len(efforts) > 1]


def _most(label: str, said: str, met: Sequence[Met], effort: int, strength: float) -> Value:
    """The largest success at efforts and strengths up to these."""
    success, images = max((one.success, one.clean.shape[-1]) for one in met
                          if one.effort <= effort and one.threat.strength <= strength)
    own = estimate([success], images)
    return Value(own, f"{label}, {said}, strength {strength:.3g}: {percent(own.value)} {interval(own)}, "
                 f"{images} images")


def _envelope(met: Sequence[Met]) -> tuple[list[float], NDArray[np.float64]]:
    """Strengths, and `evaluation.envelope (2)` of an attack (efforts, strengths)."""
    efforts, strengths = sorted({m.effort for m in met}), sorted({m.threat.strength for m in met})
    found = {(m.effort, m.threat.strength): m.success for m in met}
    return strengths, running_largest(np.array([[found[e, s] for s in strengths] for e in efforts]))


def _rows(kind: str, one: Success) -> list[dict]:
    """With the envelope beside the success."""
    grids = {attack: _envelope(met) for attack, met in one.attacks.items()}
    return [{"kind": kind, "model": one.model, "platform": one.label, "attack": met.threat.kind, "effort": met.effort,
             "strength": met.threat.strength, "images": met.clean.shape[-1],
             "reads": met.clean.shape[0] * met.clean.shape[1], "clean": float(met.clean.mean()),
             "success": met.success, "envelope": largest} for attack, group in one.attacks.items()
            for met, largest in zip(group, grids[attack][1].ravel().tolist())]
