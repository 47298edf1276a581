"""Types of the fields that specs, recipes, studies, settings and key maps share, so that each is checked alike.

Ranges are wide enough for every network that was ever simulated here, and narrow enough that what lies outside is a
mistake or a forgery: it is refused before anything is built or allocated from it.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, TypeVar, overload

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo

from mapping.files import refusing
from mapping.names import nearest

LARGEST_WEIGHTS = 2**28   # of a network: a gigabyte of floats
LARGEST_UNITS = 2**26     # values that one image makes in all layers together
DEEPEST = 256             # layers
MOST, MOST_STEPS = 2**16, 100_000   # of anything that is counted; time steps, or iterations of a gradient
MOST_VALUES = 2**15       # of one header, recipe or study
LONGEST_NAME = 80         # characters, so that a file's name can hold it with a machine's beside it


T = TypeVar("T")


class Stated(BaseModel):
    """Something that a user or a file states: no unknown field, no number that is not finite, not to be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def one_if_equal(gains: float | tuple[float, ...], info: ValidationInfo) -> float | tuple[float, ...]:
    """Feedback gains, one a layer, as a single number where they are equal; the first layer's feeds nothing back.

    Raises:
        ValueError: more or fewer than the network has layers.
    """
    if not isinstance(gains, tuple):
        return gains
    if len(gains) != len(info.data.get("channels", gains)):
        raise ValueError("one feedback gain a layer is needed, or one for all")
    different = set(gains[1:] or gains)
    return gains if len(different) > 1 else different.pop()


@overload
def read_as(kind: type[T], content: object) -> T: ...


@overload
def read_as(kind: object, content: object) -> Any: ...   # a union, or an annotated type


def read_as(kind: Any, content: object) -> Any:
    """What parsed JSON or TOML states, as a type of pydantic: strictly, so that no text, float or truth is a count.

    Raises:
        ValidationError: a field that is missing, of another type or out of range.
        ValueError: an unknown field; or more values than anyone states: pydantic would note what is wrong with each.
    """
    if (text := json.dumps(content)).count(",") > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values")
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        noted = error.errors(include_url=False) if error.error_count() <= DEEPEST else []
        if unknown := [one["loc"] for one in noted if one["type"] == "extra_forbidden"]:
            raise ValueError(_unknown(kind, [str(part) for part in unknown[0]])) from None
        raise


def _unknown(kind: Any, place: Sequence[str]) -> str:
    """What is said of a field that a type of pydantic does not have."""
    schema = TypeAdapter(kind).json_schema()
    known = [name for model in (schema, *schema.get("$defs", {}).values()) for name in model.get("properties", ())]
    near = " or ".join(nearest(place[-1], dict.fromkeys(known)))
    return f"{'.'.join(place)}: there is no such field" + (f", did you mean {near}?" if near else "")


def check_printable(text: str) -> str:
    """A text that nothing in steers a terminal.

    Raises:
        ValueError: it is not.
    """
    if not text.isprintable():
        raise ValueError("characters that do not print")
    return text


def check_name(text: str) -> str:
    """A name as it can be shown, and be part of a file's name: no path, nothing that steers a terminal.

    Raises:
        ValueError: it is not such a name.
    """
    if not text.isprintable() or set(text) & set("/\\") or text.startswith(".") or text != text.strip():
        raise ValueError(f"{text!r} is no name: characters that do not print, / or \\, or a dot or space at its ends")
    return text


def check_named(text: str, where: object):
    """Refuse what is no `Name`."""
    with refusing("not a name", where=where, allowed=f"1 to {LONGEST_NAME} printable characters, none of them / or \\, "
                  "the first no dot", remedy="choose another name"):
        TypeAdapter(Name).validate_python(text)


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(check_name)]
Text = Annotated[str, Field(max_length=1000), AfterValidator(check_printable)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Depth = Annotated[int, Field(ge=1, le=DEEPEST)]
Classes = Annotated[int, Field(ge=2, le=2**16)]
Padding = Annotated[int, Field(ge=0, le=64)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(ge=-1e6, le=1e6)]
FeedbackGain = Annotated[float, Field(ge=0, le=1000)]
Positive = Annotated[float, Field(ge=1e-12, le=1e6)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PerLayer = Annotated[tuple[T, ...], Field(min_length=1, max_length=DEEPEST)]
FeedbackGains = Annotated[FeedbackGain | PerLayer[FeedbackGain], AfterValidator(one_if_equal)]
PerChannel = Annotated[tuple[T, ...], Field(min_length=1, max_length=2**16)]
ImageShape = tuple[Count, Count, Count]


def check_size(weights: int, units: int):
    """Refuse a network that is too large for any memory.

    Args:
        weights: of the whole network.
        units: values that one image makes in it.

    Raises:
        ValueError: it is.
    """
    for count, most, what in ((weights, LARGEST_WEIGHTS, "weights"), (units, LARGEST_UNITS, "values an image")):
        if count > most:
            raise ValueError(f"a network of {count} {what}, more than {most}")

