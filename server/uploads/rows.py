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
    facts TEXT NOT NULL,
    packet_index BLOB NOT NULL DEFAULT x''
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


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """One upload. Times are seconds since 1970; several uploads may share the bytes that `sha256` names.

    In the catalogue `expires_at` is a time of the `AgeClock`.
    """

    id: str
    tenant: str
    sha256: str
    num_bytes: int
    filename: str
    created_at: int
    expires_at: int | None
    facts: VideoFacts


@dataclass(frozen=True, slots=True)
class Pieces:
    """An upload that comes in pieces; of `num_bytes` the first `received` are safe on disk.

    Its id is the later video's. `sha256` is known once all is there.
    """

    id: str
    tenant: str
    num_bytes: int
    filename: str
    received: int
    expires_at: float
    sha256: str = ""

    @property
    def is_complete(self) -> bool:
        return self.received == self.num_bytes
