"""Sources of videos: uploads, and data inside a request."""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bt_model.errors import BtchatError, InvalidValueError, UnknownNameError, VideoError
from bt_model.types import VideoFacts
from server.uploads.data_url import DATA
from server.uploads.receive import Received, VideoFile
from server.uploads.resumable import UPLOAD
from server.uploads.rows import StoredVideo
from server.uploads.store import VideoStore
from server.uploads.usage import kept_index

DIGEST = "sha256:"
"""How the name of a video begins that is known by its bytes alone."""
ACCEPTED_URLS = (
    "a data: URL in base64, vid_ and 32 or sha256: and 64 hexadecimal digits, or https://… where "
    "fetching is enabled"
)
# as OpenAPI says it
VIDEO_URL = r"^(vid_[0-9a-f]{32}$|sha256:[0-9a-f]{64}$|[dD][aA][tT][aA]:|[hH][tT][tT][pP][sS]://)"


class VideoSource(Protocol):
    """A video whose file is opened when its frames are needed."""

    @property
    def name(self) -> str: ...

    @property
    def tenant(self) -> str: ...

    @property
    def sha256(self) -> str: ...

    async def learn(self, facts: VideoFacts, index: bytes, *, is_recounted: bool) -> bool:
        """Keep what a decode found out; True if facts change, so that what was made before is outdated."""
        ...

    def reading(self) -> AbstractAsyncContextManager[VideoFile]: ...


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

    async def learn(self, facts: VideoFacts, index: bytes, *, is_recounted: bool) -> bool:
        return await self.store.learn(self.video, facts, index, is_recounted=is_recounted)

    def reading(self) -> AbstractAsyncContextManager[VideoFile]:
        return self.store.reading(self.video)


class InlineVideo:
    """A video inside the request itself; its file lives as long as the request, and as it is read."""

    name = "inline"

    def __init__(self, received: Received, tenant: str, file: AsyncExitStack) -> None:
        """`file` deletes it."""
        self.tenant = tenant
        self.sha256 = received.sha256
        self._received = received
        self._index = b""
        self._recounted: VideoFacts | None = None
        self._file = file
        self._num_readers = 1  # the request

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[VideoFile]:
        """The file, also when the request ends: others may wait for the same tokens."""
        self._num_readers += 1
        try:
            yield VideoFile(self._received.path, self._index)
        finally:
            await self.leave()

    async def learn(self, facts: VideoFacts, index: bytes, *, is_recounted: bool) -> bool:
        """For another decode of the same request; an earlier one's tokens may be of frames counted before."""
        self._index = kept_index(index, self._received.num_bytes) or self._index
        is_outdated = is_recounted and facts != self._recounted
        self._recounted = facts if is_recounted else self._recounted
        return is_outdated

    async def leave(self) -> None:
        """One reader less."""
        self._num_readers -= 1
        if not self._num_readers:
            await self._file.aclose()


V = TypeVar("V")
Inline = InlineVideo | ValueError | VideoError
"""What became of a data URL: a video, or why it is none."""


async def lend(
    store: VideoStore, content: AsyncIterable[bytes], tenant: str, lifetime: AsyncExitStack
) -> InlineVideo:
    """A video that is on disk until `lifetime` ends. Raises as `VideoStore.lending`."""
    file = AsyncExitStack()
    video = InlineVideo(await file.enter_async_context(store.lending(content)), tenant, file)
    lifetime.push_async_callback(video.leave)
    return video


async def find_video(store: VideoStore, tenant: str, video_id: str, param: str = "video") -> UploadedVideo:
    """An upload by its id, or by the SHA-256 of its bytes; UnknownNameError where this tenant has none."""
    if not video_id.startswith(DIGEST):
        return UploadedVideo(await store.get(tenant, video_id, param=param), store)
    if (found := await store.find_bytes(tenant, video_id.removeprefix(DIGEST))) is None:
        text = (
            f"no upload has the {video_id!r}; upload the same file (POST /v1/video/uploads), then ask again"
        )
        raise UnknownNameError(text, code="video_not_found", param=param)
    return UploadedVideo(found, store)


async def find_source(
    store: VideoStore, inline: Mapping[str, Inline], tenant: str, url: str, param: str
) -> VideoSource:
    """An upload, or the video that came inside the request in place of this URL.

    Raises:
        UnknownNameError: no such upload.
        BtchatError: not a supported URL, or not a video.
    """
    if is_data(url):
        return found_inline(inline, url, param)
    if url.startswith((UPLOAD, DIGEST)):
        return await find_video(store, tenant, url, param)
    raise InvalidValueError(f"{param} is {url[:40]!r}; allowed: {ACCEPTED_URLS}", param=param)


def found_inline(inline: Mapping[str, V | ValueError | VideoError], url: str, param: str) -> V:
    """What came in place of a data URL.

    Raises:
        BtchatError: it is not base64, or no video.
    """
    found = inline.get(url)
    if found is None:
        raise InvalidValueError(f"{param} is {url[:40]!r}; allowed: data:…;base64,…", param=param)
    if isinstance(found, ValueError | VideoError):
        raise refusal(found, param)
    return found


def refusal(reason: ValueError | VideoError, param: str) -> BtchatError:
    """Why what stands in the field `param` is not used."""
    if isinstance(reason, VideoError):
        reason.param = reason.param or param
        return reason
    if isinstance(reason, InvalidValueError):
        return InvalidValueError(reason.message, param=param)
    return InvalidValueError(f"{param} is not base64: {reason}", param=param)


def is_data(url: str) -> bool:
    """Whether this is a data URL."""
    return url[: len(DATA)].lower() == DATA


def is_remote(url: str) -> bool:
    """Whether this is the address of a video somewhere else."""
    return url.lower().startswith(("http://", "https://"))
