"""Videos as fields of a body: an id, a URL or a data URL, alone or with a sampling of its own."""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from bt_model.types import Sampling, Strategy
from server.bodies.own import FewErrors, SamplingBody, SamplingFields, SamplingSeed
from server.bodies.video_part import VideoPart
from server.uploads.sources import VIDEO_URL

MAX_PARTS = 64

Url = Annotated[
    str, Field(min_length=1, json_schema_extra={"pattern": VIDEO_URL})
]  # a length bound also makes pydantic refuse lone surrogates


def _as_url(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


def kind_of(value: object) -> str:
    """Which branch of a field a value is of that may be a list; errors are then of that branch alone."""
    return "List" if isinstance(value, list) else "One"


class PartSampling(SamplingFields):
    """Sampling inside a video part; fields that are not given keep the request's values."""

    strategy: Strategy | None = None
    """which frames are taken"""
    seed: SamplingSeed | None = None
    """of the strategy `random`"""


class MediaBody(PartSampling):
    """`url` is a data URL, the id of an upload, or the address of a video elsewhere."""

    url: Url
    """id of an upload, a data URL, or an address"""
    detail: Literal["auto", "low", "high", "original"] | None = None  # a model sees one size
    """changes nothing: a model sees one size"""


Media = Annotated[MediaBody, BeforeValidator(_as_url, json_schema_input_type=Url | MediaBody)]
_List = Annotated[FewErrors[Media], Field(min_length=1, max_length=MAX_PARTS)]
Videos = Annotated[Annotated[Media, Tag("One")] | Annotated[_List, Tag("List")], Discriminator(kind_of)]
"""Those of a request, which its first user's message shows."""


def shown_first(
    videos: MediaBody | list[MediaBody], sampling_for: Callable[[PartSampling], Sampling]
) -> Iterator[VideoPart]:
    """A request's videos; raises InvalidValueError for a sampling out of range."""
    if isinstance(videos, MediaBody):
        yield VideoPart(videos.url, "video", sampling_for(videos))
        return
    for number, each in enumerate(videos):
        yield VideoPart(each.url, f"video[{number}]", sampling_for(each))


def merged(*places: PartSampling | SamplingBody | None) -> Sampling:
    """The sampling of which later places override what earlier ones say; count and rate are one value.

    Raises:
        InvalidValueError: a value out of range.
    """
    values: dict[str, object] = {}
    for place in places:
        if place is None:
            continue
        given = place.model_dump(exclude_unset=True, exclude_none=True, include=_SAMPLING_NAMES)
        if given.keys() & _RATES:
            values = {name: value for name, value in values.items() if name not in _RATES}
        values |= given
    return SamplingBody.model_validate(values).value()


_RATES = frozenset({"num_frames", "fps", "max_frames"})
_SAMPLING_NAMES = set(PartSampling.model_fields)
