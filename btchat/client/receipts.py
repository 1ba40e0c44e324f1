"""The receipt of an answer: what the model saw, what was done for it, and how long that took."""

from typing import Any

from btchat.client.objects import ServerObject


class SeenFrames(ServerObject):
    """The frames that the model saw: their indices in the file, and their times in seconds."""

    count: int
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    reader: str = ""


class StageSeconds(ServerObject):
    """Seconds spent, step by step; `first_token` and `total` count from the question."""

    decode: float = 0.0
    encode: float = 0.0
    queue: float = 0.0
    prefill: float = 0.0
    generate: float = 0.0
    first_token: float = 0.0
    total: float = 0.0


class CacheUse(ServerObject):
    """What was not computed again: `features` is hit, joined or miss, None without a video."""

    features: str | None = None
    prompt_tokens: int = 0


class VideoReceipt(ServerObject):
    """One video's part. `sampling`, sent again to the same model, gives the same frames."""

    video: str | None = None
    frames: SeenFrames | None = None
    warnings: tuple[str, ...] = ()
    sampling: dict[str, Any] | None = None
    picture: dict[str, Any] | None = None
    audio_ignored: bool | None = None
    seconds: StageSeconds = StageSeconds()
    cache: CacheUse = CacheUse()


class Receipt(VideoReceipt):
    """Of an answer or of tokens; it is that of the first video, `videos` has each where there are several."""

    model: str = ""
    fingerprint: str = ""
    notice: str | None = None
    videos: tuple[VideoReceipt, ...] = ()
