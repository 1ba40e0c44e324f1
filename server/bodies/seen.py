"""What a model sees of a video: frames and pooled tokens."""

from typing import Literal

from server.bodies.described import ResponseBody
from server.bodies.facts import FactsObject
from server.bodies.receipts import Receipt, ReceiptSampling


class FrameObject(ResponseBody):
    """One of the model's input frames."""

    index: int
    """its number in the whole file, from 0"""
    timestamp: float
    """when it is shown, in seconds"""
    image: str
    """a data URL of a JPEG"""


class FramesObject(ResponseBody):
    """The model's input frames of one video in order."""

    object: Literal["video.frames"] = "video.frames"
    """always video.frames"""
    video: str
    """the id of the upload"""
    num_frames: int
    """how many there are"""
    sampling: ReceiptSampling
    """what was really used"""
    warnings: list[str]
    """what the file lacks, and how the sampling was rounded"""
    reader: str
    """the library that decoded them"""
    frames: list[FrameObject]
    """the frames"""
    facts: FactsObject
    """what the file tells"""


class TokensObject(ResponseBody):
    """Pooled tokens (K, D) of one video."""

    object: Literal["video.tokens"] = "video.tokens"
    """always video.tokens"""
    video: str
    """the id of the upload"""
    shape: list[int]
    """K and D"""
    dtype: str
    """of its numbers"""
    fingerprint: str
    """of the model's tower and temporal model, and of what affects tokens"""
    pooling: str
    """how frames become tokens"""
    data: str
    """base64 of the row-major little-endian array"""
    receipt: Receipt
    """what they were made of"""
