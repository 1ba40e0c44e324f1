"""A video as a body names it."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from bt_model.types import BEGIN, Place, Sampling

VideoId = Annotated[
    str,
    Field(
        max_length=71,
        description="an upload: its id, vid_ and 32 hexadecimal digits, or sha256: and the 64 of its bytes",
    ),
]


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A video by its URL or id, and where the dialogue shows it; `param` is its field, for errors."""

    url: str
    param: str
    sampling: Sampling
    place: Place = BEGIN  # once the turns of the dialogue are known
