"""The types of fields, as `mapping.fields` defines them for everything that is stated in a file."""

from mapping.fields import (
    MOST,
    MOST_STEPS,
    Classes,
    Count,
    Depth,
    Finite,
    Fraction,
    ImageShape,
    Name,
    Padding,
    PerChannel,
    PerLayer,
    Positive,
    Scale,
    Seed,
    Sha256,
    Stated,
    Steps,
    Text,
    check_named,
    check_size,
    read_as,
)

__all__ = ["MOST", "MOST_STEPS", "Classes", "Count", "Depth", "Finite", "Fraction", "ImageShape", "Name", "Padding",
           "PerChannel", "PerLayer", "Positive", "Scale", "Seed", "Sha256", "Stated", "Steps", "Text",
           "check_named", "check_size", "read_as"]
