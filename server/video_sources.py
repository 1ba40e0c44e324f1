"""Videos that a question may be about: uploads, and those inside a request."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from server.uploads.catalog import StoredVideo
from server.uploads.receive import receiving
from server.uploads.store import VideoStore


class VideoSource(Protocol):
    """A video that can be read when its frames are needed."""

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
