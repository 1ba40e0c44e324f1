"""What a server sends, each field typed. What a newer server adds is kept, and found by its name.

Fields that an older server may leave out have defaults.
"""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class ServerObject(BaseModel):
    """A frozen value; unknown fields are in `model_extra`, and attributes as well."""

    model_config = ConfigDict(frozen=True, extra="allow", protected_namespaces=())


class UploadFacts(ServerObject):
    """What a container says of a video, as displayed; `warnings` tell what it lacks."""

    width: int
    height: int
    num_frames: int
    fps: float
    seconds: float
    rotation: int = 0
    codec: str
    container: str
    has_audio: bool = False
    pix_fmt: str = "unknown"
    sample_aspect_ratio: str = "1:1"
    color_range: str = "unknown"
    color_space: str = "unknown"
    color_transfer: str = "unknown"
    color_primaries: str = "unknown"
    tone_mapped: bool = False
    deinterlaced: bool = False
    warnings: tuple[str, ...] = ()


class VideoUpload(ServerObject):
    """A stored video; times are seconds since 1970. Without `pixels` only its tokens are there."""

    id: str
    bytes: int
    sha256: str
    filename: str = ""
    created_at: int
    expires_at: int | None = None
    pixels: bool = True
    facts: UploadFacts


class UploadPage(ServerObject):
    """Some uploads; where `has_more` is true, `after=last_id` gives the next ones."""

    data: tuple[VideoUpload, ...]
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None


class RemovedFiles(ServerObject):
    """What a deletion took off the server's disk; all are 0 of what others still need."""

    file_bytes: int = 0
    index_bytes: int = 0
    token_files: int = 0
    token_bytes: int = 0


class DeletedUpload(ServerObject):
    """A deletion that was done; `deleted` is false where tokens, and so the id, are kept."""

    id: str
    deleted: bool = True
    removed: RemovedFiles = RemovedFiles()


class TokenDetails(ServerObject):
    """Of a prompt's tokens: those that were not computed again, and those of its videos."""

    cached_tokens: int = 0
    video_tokens: int = 0


class TokenUsage(ServerObject):
    """Tokens of a prompt and its answers."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: TokenDetails = TokenDetails()


class ModelInfo(ServerObject):
    """One model of a server; most is known once it has been loaded."""

    id: str
    created: int = 0
    owned_by: str = ""
    loaded: bool = False
    max_model_len: int | None = None
    backend: str | None = None
    default_frames: int | None = None
    max_frames: int | None = None
    max_videos: int | None = None
    num_video_tokens: int | None = None
    fingerprint: str | None = None
    notice: str | None = None


class ModelList(ServerObject):
    """All models of a server, the default first."""

    data: tuple[ModelInfo, ...]


class LoadedFacts(ServerObject):
    """What affects the answers of a model that is loaded."""

    id: str
    backend: str | None = None
    fingerprint: str | None = None
    pooling: str | None = None
    temporal: str | None = None
    device: str | None = None
    dtype: str | None = None
    quantise: str | None = None
    accepted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    notice: str | None = None


class ServerVersion(ServerObject):
    """Versions of everything that affects an answer; `models` are loaded."""

    btchat: str
    python: str = ""
    model: str = ""
    backend: str | None = None
    fingerprint: str | None = None
    decoder: str | None = None
    sandbox: str | None = None
    sandbox_reason: str | None = None
    notice: str | None = None
    versions: dict[str, str] = {}
    models: tuple[LoadedFacts, ...] = ()


class ServerReady(ServerObject):
    """A server that answers questions; `storage` is "degraded" while it takes no uploads."""

    status: str
    model: str = ""
    storage: str = "ok"


def _jpeg(value: Any) -> Any:
    """A data URL's content."""
    if isinstance(value, str) and value.startswith("data:"):
        return base64.b64decode(value.partition(",")[2])
    return value


class FramePicture(ServerObject):
    """One of a model's input frames: `index` in the file, `timestamp` in seconds, `image` a JPEG file."""

    index: int
    timestamp: float
    image: Annotated[bytes, BeforeValidator(_jpeg)]

    def save(self, path: str | Path) -> None:
        """Write the JPEG file. Raises OSError."""
        Path(path).write_bytes(self.image)


class FrameSet(ServerObject):
    """The frames that a model sees of a video, in order; `sampling` sent again gives the same."""

    video: str
    num_frames: int
    sampling: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    reader: str = ""
    frames: tuple[FramePicture, ...]
    facts: UploadFacts

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, number: int) -> FramePicture:
        return self.frames[number]

    def pictures(self) -> Iterator[bytes]:
        """The JPEG files in order."""
        return (frame.image for frame in self.frames)
