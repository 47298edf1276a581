"""Types of the fields that specs, recipes and key maps share, so that each is checked alike."""

from typing import Annotated

from pydantic import Field

Count = Annotated[int, Field(ge=1)]
Padding = Annotated[int, Field(ge=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
ImageShape = tuple[Count, Count, Count]
