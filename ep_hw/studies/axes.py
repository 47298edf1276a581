"""One swept option as an axis: its values in order, and where each lies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mapping.options import duration
from mapping.registry import parse


@dataclass(frozen=True)
class SweptAxis:
    """An option and the values it took.

    Attributes:
        option: its name.
        values: texts, rising where they are numbers.
        places: where each lies, in the option's unit.
        is_number: whether places are its values; else they count them.
        is_time: whether the values are times, in seconds.
    """

    option: str
    values: tuple[str, ...]
    places: tuple[float, ...]
    is_number: bool
    is_time: bool = False

    @classmethod
    def of(cls, option: str, rows: Sequence[dict]) -> "SweptAxis":
        """The axis of an option over a study's rows."""
        read = _parser(option, rows)
        texts = list(dict.fromkeys(str(r[option]) for r in rows))
        values = [read(text) for text in texts if text != "auto"]
        numbers = [float(value) for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if len(numbers) < len(texts):
            return cls(option, tuple(texts), tuple(map(float, range(len(texts)))), False)
        order = sorted(zip(numbers, texts))
        return cls(option, tuple(t for _, t in order), tuple(n for n, _ in order), True, read is duration)

    @property
    def label(self) -> str:
        return self.option.replace("_", " ")

    def place(self, row: dict) -> float:
        """Where a row lies on the axis."""
        return self.places[self.values.index(str(row[self.option]))]


def _parser(option: str, rows: Sequence[dict]) -> Callable[[str], object]:
    """How the first machine that has the option reads it."""
    targets = (parse(row["machine"]) for row in rows)
    return next(target.options[option].metadata["parse"] for target in targets if option in target.options)
