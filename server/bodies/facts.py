"""What a video's file tells."""

from dataclasses import asdict
from typing import Self

from bt_model.types import VideoFacts
from server.bodies.receipts import ReceiptPicture


class FactsObject(ReceiptPicture):
    """What container and frames of a video tell; from `pix_fmt` on of its first frame, in ffprobe's words."""

    width: int
    """on screen, in pixels"""
    height: int
    """on screen, in pixels"""
    num_frames: int
    """how many there are"""
    fps: float
    """frames a second, on average"""
    seconds: float
    """how long it plays"""
    rotation: int
    """degrees by which the stored picture is turned"""
    codec: str
    """of its pictures"""
    container: str
    """of the file"""
    has_audio: bool
    """whether there is sound, which no model hears"""
    warnings: list[str]
    """what the file lacks"""

    @classmethod
    def of(cls, facts: VideoFacts) -> Self:
        return cls.model_validate(asdict(facts))
