"""What a stream says of its pixels: without FFmpeg, so that every process knows it."""

from dataclasses import dataclass, fields
from typing import Self

from bt_model.types import VideoFacts


@dataclass(frozen=True, slots=True)
class Picture:
    """The part of a video's facts that is about pixels, as ffprobe names it; `unknown` is what has no tag.

    A ratio that no picture can have counts as 1:1. The last two are what is done to frames.
    """

    pix_fmt: str
    sample_aspect_ratio: str
    color_range: str
    color_space: str
    color_transfer: str
    color_primaries: str
    tone_mapped: bool
    deinterlaced: bool

    @classmethod
    def of(cls, facts: VideoFacts) -> Self:
        return cls(**{each.name: getattr(facts, each.name) for each in fields(cls)})
