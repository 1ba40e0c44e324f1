"""What the routes of uploads send."""

from typing import Literal, Self

from server.bodies.described import ResponseBody
from server.bodies.facts import FactsObject
from server.bodies.pages import Listed, ObjectPage
from server.features.ahead import READY, Readiness, Status
from server.uploads.rows import Removed, StoredVideo


class VideoObject(Listed):
    """One upload."""

    id: str
    """what requests name it by: vid_ and 32 hexadecimal digits"""
    object: Literal["video"] = "video"
    """always video"""
    status: Status
    """processing while its tokens are made before anybody asks; error where its frames cannot be decoded;
    else processed, so that questions about it can be answered"""
    status_details: str | None = None
    """what is wrong, where status is error"""
    pixels: bool
    """whether its file is there; without it only what its tokens are there for is answered"""
    bytes: int
    """of the file"""
    sha256: str
    """of the file, in 64 hexadecimal digits"""
    filename: str
    """the name that the client gave, or nothing"""
    created_at: int
    """seconds since 1970, when it was stored"""
    expires_at: int | None
    """seconds since 1970, when it will be deleted; null: never"""
    duration: float
    """seconds that it plays"""
    facts: FactsObject
    """what its container says, and its packets"""

    @classmethod
    def of(cls, video: StoredVideo, readiness: Readiness = READY) -> Self:
        return cls(
            id=video.id,
            status=readiness.status,
            status_details=readiness.reason,
            pixels=video.has_pixels,
            bytes=video.num_bytes,
            sha256=video.sha256,
            filename=video.filename,
            created_at=video.created_at,
            expires_at=video.expires_at,
            duration=video.facts.seconds,
            facts=FactsObject.of(video.facts),
        )


class VideoPage(ObjectPage[VideoObject]):
    """A page of uploads."""


class RemovedObject(ResponseBody):
    """What a deletion took off the disk; all are 0 of what others still need."""

    file_bytes: int
    """of the video's file"""
    token_files: int
    """of its tokens, one for each model and sampling"""
    token_bytes: int
    """of these together"""
    index_bytes: int
    """of the index of its packets"""

    @classmethod
    def of(cls, removed: Removed) -> Self:
        return cls(**{name: getattr(removed, name) for name in cls.model_fields})


class Deleted(ResponseBody):
    """The response to a deletion."""

    id: str
    """the upload's"""
    object: Literal["video"] = "video"
    """always video"""
    deleted: bool
    """false where its tokens, and so its id, are kept"""
    removed: RemovedObject
    """what is gone"""
