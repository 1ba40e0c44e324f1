"""The bodies of /v1/models."""

from typing import Literal, Self

from pydantic import BaseModel

from bt_model.types import ModelCard


class ModelObject(BaseModel):
    """One configured model. Its details are known once it has been loaded."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "btchat"
    loaded: bool
    max_model_len: int | None = None
    backend: str | None = None
    default_frames: int | None = None
    max_frames: int | None = None
    max_videos: int | None = None
    num_video_tokens: int | None = None
    fingerprint: str | None = None
    notice: str | None = None

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
            fingerprint=card.fingerprint,
            notice=card.notice,
        )


class ModelPage(BaseModel):
    """All configured models, the default first."""

    object: Literal["list"] = "list"
    data: list[ModelObject]
