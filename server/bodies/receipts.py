"""The receipt of an answer: what the model saw, how it came to be, and how long that took."""

from typing import Any, Literal

from bt_model.types import Strategy
from server.bodies.described import ResponseBody


class ReceiptFrames(ResponseBody):
    """The model's input frames of one video."""

    count: int
    """how many there are"""
    indices: list[int]
    """their numbers in the whole file, from 0"""
    timestamps: list[float]
    """when each is shown, in seconds"""
    reader: str
    """the library that decoded them"""


class ReceiptSampling(ResponseBody):
    """The sampling that was really used; sent back, it gives the same frames."""

    num_frames: int | None
    """the number of frames; null where a rate was asked for"""
    fps: float | None
    """the rate that was asked for, in frames a second"""
    max_frames: int | None
    """the most frames that the rate might give"""
    start: float | None
    """the begin of the window, in seconds"""
    end: float | None
    """the end of the window, in seconds"""
    strategy: Strategy
    """which frames are taken"""
    seed: int
    """of the strategy `random`"""


class ReceiptPicture(ResponseBody):
    """What container and first frame tell of the picture, in ffprobe's words, and what was done."""

    pix_fmt: str
    """the layout of its pixels"""
    sample_aspect_ratio: str
    """width to height of one stored pixel"""
    color_range: str
    """tv (limited) or pc (full)"""
    color_space: str
    """the matrix from YUV to RGB"""
    color_transfer: str
    """the transfer characteristics; HLG is arib-std-b67, PQ is smpte2084"""
    color_primaries: str
    """the primaries"""
    tone_mapped: bool
    """whether HDR was brought to SDR"""
    deinterlaced: bool
    """whether one field of each frame is shown"""


class VideoSeconds(ResponseBody):
    """Seconds that one video took."""

    decode: float
    """to decode its frames, 0 where its tokens were found"""
    encode: float
    """to make its tokens, 0 where they were found"""


class AnswerSeconds(VideoSeconds):
    """Seconds that an answer took; those of several videos are summed."""

    queue: float | None = None
    """waiting for room in the engine"""
    prefill: float | None = None
    """reading the prompt"""
    generate: float | None = None
    """writing the answer"""
    first_token: float | None = None
    """from the request to the first text"""
    total: float | None = None
    """from the request to the end"""


class VideoCache(ResponseBody):
    """Where the tokens of a video came from."""

    features: Literal["hit", "joined", "miss"] | None
    """found; made for another request at the same time; or made for this one"""


class AnswerCache(VideoCache):
    """What was found in caches; of several videos the worst."""

    prompt_tokens: int | None = None
    """tokens of the prompt that were not computed again"""


class SeenVideo(ResponseBody):
    """What the model saw of one video."""

    video: str | None
    """its id; `inline` where it came inside of the request, null without one"""
    frames: ReceiptFrames | None = None
    """the model's input frames"""
    warnings: list[str] | None = None
    """what the file lacks, and how the sampling was rounded"""
    sampling: ReceiptSampling | None = None
    """which frames were taken, and how"""
    picture: ReceiptPicture | None = None
    """colours and shape"""
    audio_ignored: bool | None = None
    """whether there is sound, which no model hears"""


class VideoReceipt(SeenVideo):
    """One of several videos."""

    seconds: VideoSeconds
    """what it took"""
    cache: VideoCache
    """where its tokens came from"""


class Receipt(SeenVideo):
    """What an answer or tokens were made of. It tells of the first video as if that were alone."""

    seconds: AnswerSeconds
    """what everything took"""
    cache: AnswerCache
    """what was found in caches"""
    model: str
    """the model's name"""
    fingerprint: str
    """of its weights and of what affects its answers"""
    notice: str | None
    """what the model's file says that one should know of it"""
    request: dict[str, Any] | None = None
    """the body of /v1/video/chat that gives the same answer; none for tokens"""
    videos: list[VideoReceipt] | None = None
    """each of several videos; left out where there is only one"""
