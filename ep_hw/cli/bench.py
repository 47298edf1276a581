"""What every command that measures a network on machines does alike: load, compile, claim a folder, show, write."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ep_hw.cli.data import DataOptions
from ep_hw.cli.folder import asked, claimed, labels
from ep_hw.cli.options import Chip, Images, Out, seeded
from ep_hw.cli.printing import print_table, save_measurement, say, track_points
from mapping.program import Program, Table

if TYPE_CHECKING:   # load torch and matplotlib
    from matplotlib.figure import Figure

    from ep_hw.data.splits import Split
    from ep_hw.networks.baselines import Baseline
    from ep_hw.networks.network import EPNetwork
    from ep_hw.report.frame import Drawn
    from ep_hw.report.story import Told
    from mapping.graph import EPGraph
    from simulators.machine import Machine

Found = TypeVar("Found")
Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class SampleOptions(DataOptions):
    """The images that machines are shown, and where what is found goes."""

    images: Images = 100
    seed: Annotated[int, seeded("of images and of all noise")] = 0
    out: Out = None


@dataclass(frozen=True, kw_only=True)
class ChipOptions(SampleOptions):
    """The same for a machine that may be a chip."""

    chip: Chip = 0


@dataclass(frozen=True, eq=False)
class Bench:
    """A network, and the images that its machines are shown.

    Attributes:
        context: of the command, whose parameters say which, and where the files go.
        net: the network.
        split: the images.
    """

    context: typer.Context
    net: "EPNetwork | Baseline"
    split: "Split"

    @classmethod
    def of(cls, context: typer.Context, model: str, sample: SampleOptions) -> "Bench":
        """What a command measures.

        Raises:
            Refusal: two machines have one label.
        """
        from ep_hw.networks.programs import network_and_images

        labels(context)
        return cls(context, *network_and_images(model, sample.images, sample.seed, sample.source()))

    def graph(self) -> "EPGraph":
        """The network as it is lowered.

        Raises:
            Refusal: it is none that can be mapped.
        """
        return self.net.lower()

    def programs(self, machines: Sequence[str]) -> list[Program]:
        """The programs that names of machines and folders stand for.

        Raises:
            Refusal: a name means none, or labels are not one a machine.
        """
        from ep_hw.networks.programs import program_of
        from mapping.labels import shown_names

        programs = [program_of(name, self.graph()) for name in machines]
        shown_names(program.target for program in programs)
        return programs

    def claim(self, programs: Iterable[Program]) -> Path:
        """The folder of these programs' measurement, taken for it; see `claimed`."""
        digests = (program.digest() for program in programs)
        return claimed(self.context, self.net.name, asked(self.context, self.split.digest, *digests))

    def claim_if_named(self) -> None:
        """Take the folder named, if one is, for the network itself."""
        from ep_hw.networks.programs import reference_of

        if self.context.params["out"] is not None:
            digest = reference_of(self.net).digest()
            claimed(self.context, self.net.name, asked(self.context, self.split.digest, digest))

    def each(self, programs: Sequence[Program], doing: str, measure: "Callable[[Machine], Found]") -> list[Found]:
        """What is measured on the machine of every program, one after another."""
        return [measure(machine) for machine in track_points(self._opened(programs), len(programs), doing)]

    def _opened(self, programs: Iterable[Program]) -> "Iterator[Machine]":
        import simulators

        for program in programs:
            with simulators.open(program, chip_seed=self.context.params["chip"]) as machine:
                yield machine

    def save(self, out: Path, settings: Sequence[str], rows: Rows, table: Table, figure: "Figure",
             told: "Told", pictures: "Sequence[Drawn]") -> None:
        """Print a measurement and write its table, figure, numbers and page.

        Args:
            out: the folder.
            settings: names of the parameters that the numbers are kept with, besides the model.
            rows: the numbers.
            table: what is printed.
            figure: what is drawn.
            told: what was found.
            pictures: the figure as the page draws it.
        """
        save_measurement(out, self._name, self._settings(settings), self._in_full(rows), table, figure, told, pictures)

    def save_rows(self, settings: Sequence[str], rows: Rows, table: Table,
                  more: Mapping[str, float] | None = None) -> None:
        """Print numbers that have no figure, and write them where a folder is named; see `save`.

        Args:
            more: settings whose names in the file are not those of parameters.
        """
        from ep_hw.report.exports import write_rows

        print_table(table)
        if (out := self.context.params["out"]) is not None:
            for path in write_rows(out, self._name, {**self._settings(settings), **(more or {})},
                                   self._in_full(rows)):
                say(path)

    @property
    def _name(self) -> str:
        return self.context.info_name or ""

    def _in_full(self, rows: Rows) -> Rows:
        """Rows of machines with labels, beside each the machine that it stands for."""
        names = labels(self.context)
        return [{**row, "full_name": names.get(row["machine"], row["machine"])} for row in rows] if names else rows

    def _settings(self, names: Sequence[str]) -> dict[str, object]:
        return {"model": self.net.name, **{name: self.context.params[name] for name in names}}
