"""A section of settings: frozen, no name that it does not know, values of exactly its types."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Text = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Settings that stand together in a file; rules between them are validators."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
