"""Which frames of a video are read, and how each becomes the tower's square.

T frames, H height, W width.
"""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from bt_model.decoding.wire import Request
from bt_model.types import FrameSize, ResizeMode, Sampling, Strategy
from bt_model.video.crop import Cutout

if TYPE_CHECKING:
    from bt_model.training.data.clip_list import ClipSource
    from bt_model.training.instruct.config import InstructData


@dataclass(frozen=True, slots=True)
class Framing:
    """T frames by `strategy`, scaled by `fit` to `short_side`, then cropped at the centre to `side`."""

    num_frames: int
    strategy: Strategy
    side: int
    short_side: int
    fit: ResizeMode | Literal["whole"]

    @classmethod
    def of(cls, data: "InstructData", side: int, served: ResizeMode) -> "Framing":
        """From a data section and the tower's image size; as in serving if no short side is set."""
        if not data.short_side:
            return cls(data.frames, data.strategy, side, side, served)
        return cls(data.frames, data.strategy, side, max(side, data.short_side), "whole")

    def request(self, source: "ClipSource") -> Request:
        """The request to a decode child."""
        return Request(
            "frames",
            Sampling(num_frames=self.num_frames, strategy=self.strategy),
            (FrameSize(self.short_side, self.fit),),
            start=source.start,
            length=source.length,
            cutout=Cutout(self.side),
        )

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)
