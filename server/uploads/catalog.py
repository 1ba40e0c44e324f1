"""The table of uploaded videos, in SQLite. Synchronous; the store calls it from one thread at a time."""

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Literal

from bt_model.errors import InvalidValueError
from bt_model.types import VideoFacts

Order = Literal["asc", "desc"]

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
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
"""
_COLUMNS = "id, tenant, sha256, num_bytes, filename, created_at, expires_at, facts"


@dataclass(frozen=True, slots=True)
class StoredVideo:
    """One upload. Times are seconds since 1970; several uploads may share the bytes that `sha256` names."""

    id: str
    tenant: str
    sha256: str
    num_bytes: int
    filename: str
    created_at: int
    expires_at: int | None
    facts: VideoFacts


class Catalog:
    """The table of uploads."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def insert(self, video: StoredVideo) -> None:
        values = (
            *(getattr(video, name) for name in _COLUMNS.split(", ")[:-1]),
            json.dumps(asdict(video.facts)),
        )
        self._db.execute(f"INSERT INTO videos ({_COLUMNS}) VALUES ({', '.join('?' * len(values))})", values)

    def find(self, tenant: str, video_id: str, now: int) -> StoredVideo | None:
        """A video of this tenant that has not expired."""
        rows = self._select(
            "tenant = ? AND id = ? AND (expires_at IS NULL OR expires_at > ?)", tenant, video_id, now
        )
        return rows[0] if rows else None

    def page(self, tenant: str, after: str | None, limit: int, order: Order, now: int) -> list[StoredVideo]:
        """Up to `limit` videos in order of upload, from the one after `after`.

        Raises:
            InvalidValueError: `after` is not a video of this tenant.
        """
        sign, start = (">", 0) if order == "asc" else ("<", 2**62)
        if after is not None:
            row = self._db.execute(
                "SELECT seq FROM videos WHERE tenant = ? AND id = ?", (tenant, after)
            ).fetchone()
            if row is None:
                raise InvalidValueError(
                    f"after is {after!r}; allowed: the id of a listed video", param="after"
                )
            start = row[0]
        alive = "(expires_at IS NULL OR expires_at > ?)"
        where = f"tenant = ? AND seq {sign} ? AND {alive} ORDER BY seq {order} LIMIT ?"
        return self._select(where, tenant, start, now, limit)

    def delete(self, video_id: str) -> None:
        self._db.execute("DELETE FROM videos WHERE id = ?", (video_id,))

    def expired(self, now: int) -> list[StoredVideo]:
        return self._select("expires_at <= ?", now)

    def with_bytes(self, sha256: str) -> list[StoredVideo]:
        """All uploads that share these bytes."""
        return self._select("sha256 = ?", sha256)

    def sources(self) -> set[tuple[str, str]]:
        """Owners and contents of all uploads."""
        return {(row[0], row[1]) for row in self._db.execute("SELECT DISTINCT tenant, sha256 FROM videos")}

    def digests(self) -> set[str]:
        return {row[0] for row in self._db.execute("SELECT DISTINCT sha256 FROM videos")}

    def num_bytes(self) -> int:
        """Of all files together; uploads with the same bytes share one."""
        shared = "SELECT max(num_bytes) AS each FROM videos GROUP BY sha256"
        return self._db.execute(f"SELECT coalesce(sum(each), 0) FROM ({shared})").fetchone()[0]

    def _select(self, where: str, *values: str | int) -> list[StoredVideo]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM videos WHERE {where}", values).fetchall()
        return [
            StoredVideo(
                id, tenant, sha256, num_bytes, filename, created, expires, VideoFacts(**json.loads(facts))
            )
            for id, tenant, sha256, num_bytes, filename, created, expires, facts in rows
        ]
