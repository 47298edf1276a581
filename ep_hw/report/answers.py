"""What an evaluation found, for Python and for notebooks: accuracies, rows, images, figures and failed checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from ep_hw.analysis.points import Estimate, Point, pool
from ep_hw.analysis.results import read_results
from ep_hw.analysis.rows import SummaryRow
from ep_hw.data.splits import Split
from ep_hw.evaluation.checks import Flag
from ep_hw.evaluation.pictures import Pictures, pictures
from ep_hw.report.record import Envelopes
from ep_hw.threats.threat import CLEAN, Threat, parse_threat
from mapping.errors import Refusal

if TYPE_CHECKING:   # is not installed with the project
    import pandas


@dataclass(frozen=True, eq=False, repr=False)
class Results:
    """What an evaluation found; all of it lies in its folder too.

    Attributes:
        model: that was evaluated.
        folder: of report, figures, tables and cells.
        summary: a row a machine, threat and chip, as in summary.json.
        flags: trust checks that failed, of the family too.
        clean: the images that it was about.
        family: name of each network that was evaluated beside it -> its results.
        envelopes: adversarial success in words, tables and rows; None where the suite does not measure it.
    """

    model: str
    folder: Path
    summary: Sequence[SummaryRow]
    flags: Sequence[Flag]
    clean: Split
    family: "dict[str, Results]" = field(default_factory=dict)
    envelopes: Envelopes | None = None

    @cached_property
    def points(self) -> dict[tuple[str, Threat], Point]:
        """(machine, threat) -> accuracies and agreement with the reference, pooled over chips."""
        return pool(list(self.summary))

    @property
    def machines(self) -> tuple[str, ...]:
        """Names of the machines, the reference and rungs among them."""
        return tuple(dict.fromkeys(machine for machine, _ in self.points))

    @cached_property
    def names(self) -> dict[str, str]:
        """Full name of each machine -> what it is called: its label, or what sets it apart from the others."""
        return {row["machine"]: row["machine_label"] for row in self.summary}

    def machine(self, called: str) -> str:
        """The full name of a machine by what it is called."""
        named = {shown: full for full, shown in self.names.items()} | {full: full for full in self.names}
        return named.get(called, called)

    def threat(self, called: str) -> Threat:
        """A threat by its name, its source by what that is called.

        Raises:
            Refusal: unknown name or strength.
        """
        source = Threat.named(called, 0.0).source
        return parse_threat(called.replace(source, self.machine(source), 1) if source else called)

    @property
    def threats(self) -> tuple[str, ...]:
        """Names of the threats, clean images first."""
        return tuple(dict.fromkeys(str(threat) for _, threat in self.points))

    @property
    def images(self) -> pa.Table:
        """A row an image, machine, chip and threat, as in results.parquet.

        Raises:
            Refusal: the folder is gone, or was altered.
        """
        return read_results(self.folder)[0]

    def to_pandas(self) -> "pandas.DataFrame":
        """`images` as a data frame, where pandas is installed."""
        return self.images.to_pandas()

    def accuracy(self, machine: str, threat: str = str(CLEAN)) -> Estimate:
        """The accuracy of a machine under a threat, a fraction with its 95 % interval.

        Args:
            machine: its full name, or what it is called.
            threat: alike, as "pgd_l2@0.5".

        Raises:
            Refusal: not in this evaluation.
        """
        case = self.machine(machine), self.threat(threat)
        if case not in self.points:
            raise Refusal("not evaluated", where=self.model, got=f"{machine} under {threat}",
                          allowed=f"{', '.join(self.machines)} under {', '.join(self.threats)}",
                          remedy="evaluate it, or ask for one of these")
        return self.points[case].accuracy

    def pictures(self, machine: str, threat: str, chip: int | None = None) -> Pictures:
        """The images behind an accuracy.

        Args:
            machine: its full name, or what it is called.
            threat: that it met.
            chip: its seed; the first where there are chips and none is named.

        Raises:
            Refusal: no such threat on this machine and chip in this evaluation.
        """
        return pictures(self.folder, self.images, self.clean, self.machine(machine), self.threat(threat), chip)

    @property
    def figures(self) -> dict[str, Path]:
        """Name of each figure of the report -> its picture."""
        return {path.stem: path for path in sorted((self.folder / "figures").glob("*.png"))}

    @property
    def report(self) -> Path:
        """The page to open in a browser."""
        return self.folder / "report.html"

    def __repr__(self):
        flagged = f", {len(self.flags)} failed checks" if self.flags else ""
        return (f"<Results of {self.model}: {len(self.machines)} machines, {len(self.threats)} threats{flagged}; "
                f"{self.report}>")

    def _repr_html_(self) -> str:
        """A table of accuracies, machines by threats, and what failed: what notebooks show."""
        head = "".join(f"<th>{escape(threat)}</th>" for threat in self.threats)
        rows = "".join(f'<tr><th title="{escape(machine)}">{escape(self.names[machine])}</th>'
                       f"{''.join(self._entry(machine, threat) for threat in self.threats)}</tr>"
                       for machine in self.machines)
        failed = "".join(f"<p>Trust check violated: {escape(str(flag))}</p>" for flag in self.flags)
        return (f"<p>{escape(self.model)}: accuracy in % (95 % interval); report in {escape(str(self.report))}</p>"
                f"<table><tr><th></th>{head}</tr>{rows}</table>{failed}")

    def _entry(self, machine: str, threat: str) -> str:
        point = self.points.get((machine, parse_threat(threat)))
        if point is None:
            return "<td></td>"
        value, low, high = (100 * x for x in (point.accuracy.value, point.accuracy.low, point.accuracy.high))
        return f"<td>{value:.1f} ({low:.1f} to {high:.1f})</td>"
