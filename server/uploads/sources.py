"""Sources of videos: uploads, and data inside a request."""

import asyncio
import base64
import binascii
import hashlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bt_model.errors import InvalidValueError
from server.uploads.catalog import StoredVideo
from server.uploads.receive import receiving
from server.uploads.store import VideoStore

_DATA = "data:"
ACCEPTED_URLS = "a data: URL of a video, or vid_ and 32 hexadecimal digits"


class VideoSource(Protocol):
    """A video whose file is opened when its frames are needed."""

    @property
    def name(self) -> str: ...

    @property
    def tenant(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    def reading(self) -> AbstractAsyncContextManager[Path]: ...


@dataclass(frozen=True, slots=True)
class UploadedVideo:
    """An upload."""

    video: StoredVideo
    store: VideoStore

    @property
    def name(self) -> str:
        return self.video.id

    @property
    def tenant(self) -> str:
        return self.video.tenant

    @property
    def sha256(self) -> str:
        return self.video.sha256

    def reading(self) -> AbstractAsyncContextManager[Path]:
        return self.store.reading(self.video)


@dataclass(frozen=True, slots=True)
class InlineVideo:
    """A video inside the request itself; on disk only while it is decoded."""

    content: bytes
    tenant: str
    sha256: str
    folder: Path

    @property
    def name(self) -> str:
        return "inline"

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[Path]:
        async def whole() -> AsyncGenerator[bytes]:
            yield self.content

        async with receiving(whole(), self.folder) as received:
            yield received.path


async def find_video(store: VideoStore, tenant: str, video_id: str, param: str = "video") -> UploadedVideo:
    """Raises UnknownNameError where this tenant has no such video."""
    return UploadedVideo(await store.get(tenant, video_id, param=param), store)


async def find_source(store: VideoStore, tenant: str, url: str, param: str) -> VideoSource:
    """An upload, or the video inside the URL.

    Raises:
        UnknownNameError: no such upload.
        InvalidValueError: not a supported URL.
    """
    if url.startswith(_DATA):
        content = await asyncio.to_thread(_content, url, param)
        digest = await asyncio.to_thread(hashlib.sha256, content)
        return InlineVideo(content, tenant, digest.hexdigest(), store.incoming)
    if url.startswith("vid_"):
        return await find_video(store, tenant, url, param)
    if url.startswith(("http://", "https://")):
        text = f"{param} is a remote URL, and URL fetching is not enabled here; allowed: {ACCEPTED_URLS}"
        raise InvalidValueError(text, code="url_fetching_disabled", param=param)
    raise InvalidValueError(f"{param} is {url[:40]!r}; allowed: {ACCEPTED_URLS}", param=param)


def _content(url: str, param: str) -> bytes:
    head, comma, data = url.partition(",")
    if not (comma and head.endswith(";base64") and head.startswith(f"{_DATA}video/")):
        text = f"{param} is {head[:40]!r}; allowed: data:video/…;base64,…"
        raise InvalidValueError(text, param=param)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValueError(f"{param} is not base64: {error}", param=param) from error
