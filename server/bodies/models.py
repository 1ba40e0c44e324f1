"""The bodies of /v1/models."""

from typing import Literal, Self

from bt_model.types import ModelCard
from server.bodies.described import ResponseBody


class ModelObject(ResponseBody):
    """One configured model. Its details are known once it has been loaded."""

    id: str
    """what `model` of a request names"""
    object: Literal["model"] = "model"
    """always model"""
    created: int
    """seconds since 1970, when this server was started"""
    owned_by: str = "btchat"
    """always btchat"""
    loaded: bool
    """whether it can answer at once; else the first question loads it"""
    max_model_len: int | None = None
    """tokens that prompt and answer may have together"""
    backend: str | None = None
    """the kind of chat model"""
    default_frames: int | None = None
    """frames of a video where a request does not say"""
    max_frames: int | None = None
    """the most frames of a video"""
    max_videos: int | None = None
    """the most videos of a dialogue"""
    num_video_tokens: int | None = None
    """tokens of the prompt that a video takes, however many frames it has"""
    fingerprint: str | None = None
    """of its weights and of what affects its answers"""
    notice: str | None = None
    """what its file says that one should know of it"""

    @classmethod
    def of(cls, name: str, card: ModelCard | None, created: int, *, is_loaded: bool) -> Self:
        if card is None:
            return cls(id=name, created=created, loaded=is_loaded)
        return cls(
            id=name,
            created=created,
            loaded=is_loaded,
            max_model_len=card.max_context,
            backend=card.backend,
            default_frames=card.default_frames,
            max_frames=card.max_frames,
            max_videos=card.max_videos,
            num_video_tokens=card.num_video_tokens,
            fingerprint=card.model_fingerprint,
            notice=card.notice,
        )


class ModelPage(ResponseBody):
    """All configured models."""

    object: Literal["list"] = "list"
    """always list"""
    data: list[ModelObject]
    """the models, the default first"""
