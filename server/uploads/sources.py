"""Sources of videos: uploads, and data inside a request."""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

from bt_model.errors import InvalidValueError
from server.uploads.catalog import StoredVideo
from server.uploads.receive import receiving
from server.uploads.store import VideoStore

_DATA = "data:"
_UPLOAD = "vid_"
_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;.{0,256}?)?;\s*base64,", re.IGNORECASE | re.DOTALL)
# how recorders and file pickers label a video, if at all; what it is its first bytes tell
_VIDEO_TYPE = r"video/.*|application/(mp4|x-matroska|octet-stream)|"
_BASE64_GROUP = 4
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
    if url[: len(_DATA)].lower() == _DATA:
        content = await asyncio.to_thread(_content, url, param)
        digest = await asyncio.to_thread(hashlib.sha256, content)
        return InlineVideo(content, tenant, digest.hexdigest(), store.incoming)
    if url.startswith(_UPLOAD):
        return await find_video(store, tenant, url, param)
    if url.startswith(("http://", "https://")):
        text = f"{param} is a remote URL, and URL fetching is not enabled here; allowed: {ACCEPTED_URLS}"
        raise InvalidValueError(text, code="url_fetching_disabled", param=param)
    raise InvalidValueError(f"{param} is {url[:40]!r}; allowed: {ACCEPTED_URLS}", param=param)


def is_video_url(url: str) -> bool:
    """Whether this is an address of ours, or data that may be a video by its own label."""
    return url.startswith(_UPLOAD) or _begin_of_data(url) is not None


def _begin_of_data(url: str) -> int | None:
    """Where the data of a data URL begin; its type may have parameters with commas (`codecs=vp8,opus`)."""
    label = _DATA_URL.match(url)
    return label.end() if label and re.fullmatch(_VIDEO_TYPE, label["type"], re.IGNORECASE) else None


def _content(url: str, param: str) -> bytes:
    begin = _begin_of_data(url)
    if begin is None:
        text = f"{param} is {url[:40]!r}; allowed: data:video/…;base64,…"
        raise InvalidValueError(text, param=param)
    # some encoders break lines, escape or leave out the padding
    data = "".join(unquote(url[begin:]).split())
    data += "=" * (-len(data) % _BASE64_GROUP)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidValueError(f"{param} is not base64: {error}", param=param) from error
