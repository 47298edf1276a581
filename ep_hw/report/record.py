"""What a run hands to the report: plain values, no torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure

from ep_hw.analysis.rows import SummaryRow
from ep_hw.analysis.worst import WorstCase
from ep_hw.evaluation.checks import Flag, Verdict
from ep_hw.report.figures.lettering import literal
from ep_hw.report.frame import Drawn
from ep_hw.threats.threat import Threat
from mapping.program import Table
from mapping.targets import REFERENCE
from simulators.machine import Cost


@dataclass(frozen=True, eq=False)
class GalleryItem:
    """One image before and after an attack.

    Attributes:
        machine: the machine that was attacked.
        threat: the attack.
        image_id: number of the image in its data set.
        label: its true class.
        clean: (C, H, W) in [0, 1].
        adversarial: (C, H, W) in [0, 1].
        clean_prediction: the machine's class of the clean image; None where it was not shown.
        adversarial_prediction: the machine's class of the adversarial image.
        reference_prediction: the reference's class of the adversarial image.
        norm: distance of the two images in the norm of the threat.
        broken_by: which part of the attack broke it; empty where nothing did, or no part has a name.
        network: kind of the network beside the report's own one that was asked, empty for the own one.
    """

    machine: str
    threat: Threat
    image_id: int
    label: int
    clean: np.ndarray
    adversarial: np.ndarray
    clean_prediction: int | None
    adversarial_prediction: int
    reference_prediction: int
    norm: float = 0.0
    broken_by: str = ""
    network: str = ""


@dataclass(frozen=True, eq=False)
class Exhibit:
    """A figure.

    Attributes:
        name: of its files.
        title: above it.
        caption: below it.
        alt: what a reader who cannot see it should know.
        figure: as its files have it.
        charts: as the page draws it; none where the page draws it from the results.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    charts: Sequence[Drawn] = ()

    def __post_init__(self):
        """Lay the figure out once, where each of its files would do so again."""
        literal(self.figure).draw_without_rendering()
        self.figure.set_layout_engine("none")


@dataclass(frozen=True, eq=False)
class Envelopes:
    """Adversarial success, see `ep_hw.report.envelopes`.

    Attributes:
        answers: sentences.
        tables: platforms, and sources of noise.
        exhibits: figures.
        rows: name of a file -> rows, plain values.
    """

    answers: tuple[str, ...]
    tables: tuple[Table, ...]
    exhibits: tuple[Exhibit, ...]
    rows: dict[str, list[dict]]


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRecord:
    """Everything a report shows.

    Attributes:
        title: heading of the report.
        command: the command line that made it.
        summary: a row a machine, chip and threat.
        gallery: images behind the accuracies, those of one machine and threat together.
        mapping: reports of compilers and machines, and what a relaxation costs.
        class_names: of the classes that labels number; () where they have none.
        names: what a machine is called -> its full name, of those that are called otherwise.
        waterfalls: target -> ordered (machine, cause) rungs, ("reference", "digital reference") first; each cause is
            what its machine adds to the one before.
        versions: of every package that decided a number.
        seeds: of every generator that decided a number.
        notes: remarks of the evaluation.
        checks: the trust checks; their findings are shown as a red banner.
        worst: worst cases over attacks.
        envelopes: adversarial success on every platform, None where it was not measured.
        measurements: figures of what was measured besides the cells.
        labels: (attack, strength) -> how the paper's tables name the strength.
        ensemble: of AutoAttack, None if unset.
        baseline: what the mCE is relative to.
        costs: machine -> what an image's free phase takes, of those whose energy is published.
        cards: (file name, content) of one JSON card a model and machine.
    """

    title: str
    command: str
    summary: Sequence[SummaryRow]
    gallery: list[GalleryItem]
    mapping: list[Table]
    waterfalls: dict[str, list[tuple[str, str]]]
    versions: dict[str, str]
    seeds: dict[str, object]
    notes: list[str]
    checks: list[Verdict]
    worst: list[WorstCase] = field(default_factory=list)
    envelopes: Envelopes | None = None
    measurements: list[Exhibit] = field(default_factory=list)
    labels: dict[tuple[str, float], str] = field(default_factory=dict)
    ensemble: str | None = None
    baseline: str = REFERENCE
    costs: dict[str, Cost] = field(default_factory=dict)
    cards: list[tuple[str, dict]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    class_names: tuple[str, ...] = ()

    @property
    def flags(self) -> list[Flag]:
        """The findings of all checks."""
        return [flag for verdict in self.checks for flag in verdict.flags]
