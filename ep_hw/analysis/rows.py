"""Rows of a summary: one machine and chip under one threat, its images pooled."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, cast, get_type_hints, overload

from ep_hw.threats.threat import Threat

Case = tuple[str, Threat]   # a machine under a threat


class SummaryRow(TypedDict):
    """One machine and chip under one threat. Shares are fractions of its images; "the reference" is the digital one on
    the same images.

    Attributes:
        machine: its full name.
        machine_label: what it is called where it is shown.
        chip_seed: None for machines without chips.
        n: images.
        ci_low: with `ci_high` the Wilson interval of the accuracy.
        agreement: share on which it predicts what the reference predicts.
        flips_to_wrong: images that the reference gets right and it wrong; `flips_to_right` the reverse.
        gap: accuracy minus the reference's, with `gap_low` to `gap_high` its interval by a paired bootstrap.
        logit_rmse: root mean square over images of the logits' distance from the reference's.
        logit_rmse_clean_correct: the same over images that the reference gets right where they are clean; None without.
        read_accuracy: of one read; `accuracy` is by majority over several.
        zero_gradient: mean share of gradients that were zero; 0 where there were none.
        noise_accuracy: on random noise as large as the attack; None where no attack was made on this machine.
        unaware_only: share broken by images that the same attack made on the reference, and by nothing before them.
        others_only: share broken by images that the same attack made on machines other than the reference alone.
        others: machine -> [images that those made there broke and the own attack did not, the reverse].
        black_box_only: share that an attack's black box broke; None where none was asked.
        unconverged: share whose relaxation had not settled.
        saturation: conversions clipped as a share of all; None without a circuit.
        winner_flips: changed winners of pools as a share of all; None without a circuit.
        asymmetry: of forward and backward weights, see `Machine.asymmetry`.
        seconds: that its cells took.
        key: of its configuration.
    """

    model: str
    dataset: str
    machine: str
    machine_label: str
    threat: Threat
    chip_seed: int | None
    n: int
    accuracy: float
    ci_low: float
    ci_high: float
    agreement: float
    flips_to_wrong: int
    flips_to_right: int
    gap: float
    gap_low: float
    gap_high: float
    logit_rmse: float | None
    logit_rmse_clean_correct: float | None
    read_accuracy: float
    zero_gradient: float
    noise_accuracy: float | None
    unaware_only: float | None
    others_only: float
    others: dict[str, list[int]]
    black_box_only: float | None
    unconverged: float
    saturation: float | None
    winner_flips: float | None
    asymmetry: float | None
    seconds: float
    key: str


Column = list[Any] | array
_KINDS = get_type_hints(SummaryRow)
_CODES = {float: "d", int: "q"}   # of arrays; all other kinds are held as they are


class Summary(Sequence[SummaryRow]):
    """Rows of a summary in order, held by columns, which takes a quarter of the memory of dicts."""

    def __init__(self, rows: Iterable[SummaryRow] = ()):
        self._columns: dict[str, Column] = {}
        self._count = 0
        self.extend(rows)

    def extend(self, rows: Iterable[SummaryRow]):
        """Add rows behind the others, with the same keys."""
        for row in rows:
            self._count += 1
            for name, value in row.items():
                if name not in self._columns:
                    self._columns[name] = _empty(name)
                self._columns[name].append(value)

    @overload
    def __getitem__(self, place: int) -> SummaryRow: ...

    @overload
    def __getitem__(self, place: slice) -> "Summary": ...

    def __getitem__(self, place: int | slice) -> "SummaryRow | Summary":
        if isinstance(place, slice):
            return Summary(self[n] for n in range(*place.indices(len(self))))
        return cast(SummaryRow, {name: column[place] for name, column in self._columns.items()})

    def __len__(self):
        return self._count


def _empty(name: str) -> Column:
    code = _CODES.get(_KINDS[name])
    return array(code) if code else []


Plain = dict[str, object]   # a row as it is written: texts, numbers, lists of them


def spelled(threat: Threat) -> Plain:
    """A threat as rows that are written hold it."""
    return {"threat": threat.name, "strength": float(threat.strength)}


def plain(rows: Iterable[Mapping[str, object]]) -> list[Plain]:
    """Rows as they are written, a threat by its name and strength."""
    return [{name: value for key, held in row.items() for name, value in
             (spelled(held) if isinstance(held, Threat) else {key: held}).items()} for row in rows]
