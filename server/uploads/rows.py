"""What the catalogue has rows of, and its tables."""

from dataclasses import dataclass

from bt_model.types import VideoFacts

SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = FAST;
CREATE TABLE IF NOT EXISTS videos (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    num_bytes INTEGER NOT NULL,
    filename TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    facts TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS videos_by_tenant ON videos (tenant, seq);
CREATE INDEX IF NOT EXISTS videos_by_sha256 ON videos (sha256);
CREATE INDEX IF NOT EXISTS videos_by_expiry ON videos (expires_at);
CREATE TABLE IF NOT EXISTS pieces (
    id TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    num_bytes INTEGER NOT NULL,
    filename TEXT NOT NULL,
    received INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    sha256 TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS parts (
    id TEXT NOT NULL PRIMARY KEY,
    upload_id TEXT NOT NULL,
    num_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS parts_by_upload ON parts (upload_id);
CREATE TRIGGER IF NOT EXISTS parts_end AFTER DELETE ON pieces BEGIN
    DELETE FROM parts WHERE upload_id = old.id;
END;
CREATE TABLE IF NOT EXISTS aliases (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    video_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS aliases_by_video ON aliases (video_id);
CREATE TRIGGER IF NOT EXISTS aliases_end AFTER DELETE ON videos BEGIN
    DELETE FROM aliases WHERE video_id = old.id;
END;
CREATE TABLE IF NOT EXISTS clocks (age REAL NOT NULL, wall REAL NOT NULL);
"""


ADDED = (
    ("videos", "packet_index", "BLOB NOT NULL DEFAULT x''"),
    ("videos", "pixels", "INTEGER NOT NULL DEFAULT 1"),
    ("videos", "purpose", "TEXT NOT NULL DEFAULT 'user_data'"),
    ("pieces", "purpose", "TEXT NOT NULL DEFAULT 'user_data'"),
    ("pieces", "seconds", "INTEGER"),
    ("pieces", "created_at", "INTEGER NOT NULL DEFAULT 0"),
)
"""Columns that tables of earlier versions lack."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client says of an upload: what for, and how many seconds it lives, at most as others do."""

    purpose: str = "user_data"
    seconds: int | None = None


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """One upload. Times are seconds since 1970; several uploads may share the bytes that `sha256` names.

    In the catalogue `expires_at` is a time of the `AgeClock`. Without `has_pixels` the file is nothing to it.
    """

    id: str
    tenant: str
    sha256: str
    num_bytes: int
    filename: str
    created_at: int
    expires_at: int | None
    facts: VideoFacts
    purpose: str = "user_data"
    has_pixels: bool = True


@dataclass(frozen=True, slots=True)
class Removed:
    """What a deletion took off the disk. `is_last`: its tenant has no other upload with the same bytes."""

    file_bytes: int = 0
    index_bytes: int = 0
    token_files: int = 0
    token_bytes: int = 0
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Pieces:
    """An upload that comes in pieces; of `num_bytes` the first `received` are safe on disk.

    Its id is the later video's, unless it comes in parts. `sha256` is known once all is there.
    """

    id: str
    tenant: str
    num_bytes: int
    filename: str
    received: int
    expires_at: float
    sha256: str = ""
    purpose: str = "user_data"
    seconds: int | None = None
    created_at: int = 0

    @property
    def terms(self) -> Terms:
        return Terms(self.purpose, self.seconds)

    @property
    def is_complete(self) -> bool:
        return self.received == self.num_bytes


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A part of an upload, in a file of its own."""

    id: str
    upload_id: str
    num_bytes: int
    sha256: str
