"""A video as a body names it."""

from dataclasses import dataclass

from bt_model.types import BEGIN, Place, Sampling


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A video by its URL or id, and where the dialogue shows it; `param` is its field, for errors."""

    url: str
    param: str
    sampling: Sampling
    place: Place = BEGIN  # once the turns of the dialogue are known
