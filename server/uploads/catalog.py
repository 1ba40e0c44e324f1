"""The tables of uploaded videos, in SQLite. Synchronous; the store calls it from one thread at a time."""

import json
import sqlite3
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Literal

from bt_model.errors import UnknownNameError
from bt_model.types import VideoFacts
from server.uploads.disk import transaction
from server.uploads.rows import ADDED, SCHEMA, Pieces, Removed, StoredVideo, UploadPart
from server.uploads.usage import StorageUsage

Order = Literal["asc", "desc"]

_MAX_ALIASES = 16
"""Of one video; the oldest go."""

_COLUMNS = "id, tenant, sha256, num_bytes, filename, created_at, expires_at, facts, purpose"
_PIECES = "id, tenant, num_bytes, filename, received, expires_at, sha256, purpose, seconds, created_at"
_PARTS = "id, upload_id, num_bytes, sha256"


class Catalog:
    """Uploads, those that come in pieces, and what all of them take."""

    def __init__(self, db: sqlite3.Connection, usage: StorageUsage) -> None:
        self._db = db
        self.usage = usage
        db.executescript(SCHEMA)
        for table, column, kind in ADDED:
            if column not in {each[1] for each in db.execute(f"PRAGMA table_info({table})")}:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        shared = "SELECT max(num_bytes) AS each FROM videos WHERE pixels GROUP BY sha256"
        usage.num_bytes = db.execute(f"SELECT coalesce(sum(each), 0) FROM ({shared})").fetchone()[0]
        for table, size in (("videos", "num_bytes * pixels"), ("pieces", "num_bytes")):
            rows = f"SELECT tenant, count(*), sum({size}) FROM {table} GROUP BY tenant"
            for tenant, num_videos, num_bytes in db.execute(rows):
                usage.change(tenant, num_bytes, num_bytes if table == "pieces" else 0, num_videos)

    def close(self) -> None:
        self._db.close()

    def insert(self, video: StoredVideo, index: bytes, pieces_id: str = "") -> None:
        """A video and the index of its packets, in the place of the pieces that it came in, if it did."""
        shown = replace(video, facts=json.dumps(asdict(video.facts)))  # pyright: ignore[reportArgumentType]
        values = (*(getattr(shown, name) for name in _COLUMNS.split(", ")), index)
        is_first = not self.has_file(video.sha256)
        with self._replacing(pieces_id, video):
            self._insert("videos", f"{_COLUMNS}, packet_index", values)
        self.usage.change(video.tenant, video.num_bytes, video.num_bytes if is_first else 0, 1)

    def renew(self, known: StoredVideo, video: StoredVideo, index: bytes, pieces_id: str = "") -> StoredVideo:
        """The known upload of the same bytes: it has them now, and ends no earlier than the other would."""
        ends = (known.expires_at, video.expires_at)
        renewed = replace(
            known,
            filename=known.filename or video.filename,
            expires_at=max(end for end in ends if end is not None) if None not in ends else None,
        )
        is_first = not self.has_file(video.sha256)
        with self._replacing(pieces_id, renewed):
            change = "UPDATE videos SET filename = ?, expires_at = ? WHERE id = ?"
            self._db.execute(change, (renewed.filename, renewed.expires_at, renewed.id))
            if not known.has_pixels:
                change = "UPDATE videos SET pixels = 1, facts = ?, packet_index = ? WHERE id = ?"
                self._db.execute(change, (json.dumps(asdict(video.facts)), index, known.id))
        if known.has_pixels:
            return renewed
        self.usage.change(video.tenant, video.num_bytes, video.num_bytes if is_first else 0, 0)
        return replace(renewed, facts=video.facts, has_pixels=True)

    @contextmanager
    def _replacing(self, pieces_id: str, video: StoredVideo) -> Generator[None]:
        """A transaction in which pieces become a video, that is found under their id, too, from then on."""
        pieces = self.find_pieces(pieces_id)
        with transaction(self._db):
            yield
            if pieces is not None:
                self._db.execute("DELETE FROM pieces WHERE id = ?", (pieces_id,))
                self._add_alias(pieces_id, video.id)
        if pieces is not None:
            self.usage.change(video.tenant, -pieces.num_bytes, -pieces.num_bytes, -1)

    def _add_alias(self, alias: str, video_id: str) -> None:
        if alias == video_id:
            return
        self._insert("aliases", "id, video_id", (alias, video_id))
        newest = "SELECT seq FROM aliases WHERE video_id = ? ORDER BY seq DESC LIMIT ?"
        old = f"DELETE FROM aliases WHERE video_id = ? AND seq NOT IN ({newest})"
        self._db.execute(old, (video_id, video_id, _MAX_ALIASES))

    def learn(self, tenant: str, sha256: str, facts: VideoFacts, index: bytes) -> None:
        """Correct what is known about these bytes of one tenant, whom nothing tells what others have."""
        change = "UPDATE videos SET facts = ?, packet_index = ? WHERE tenant = ? AND sha256 = ?"
        self._db.execute(change, (json.dumps(asdict(facts)), index, tenant, sha256))

    def known(self, tenant: str, sha256: str) -> tuple[VideoFacts, bytes] | None:
        """What a tenant's upload of these bytes is known to be; None without one."""
        rows = "SELECT facts, packet_index FROM videos WHERE tenant = ? AND sha256 = ? LIMIT 1"
        row = self._db.execute(rows, (tenant, sha256)).fetchone()
        return row and (_facts(row[0]), row[1])

    def find(self, tenant: str, video_id: str, now: float) -> StoredVideo | None:
        """A video of this tenant that has not expired, by its id or one that it is also known under."""
        alias = self._db.execute("SELECT video_id FROM aliases WHERE id = ?", (video_id,)).fetchone()
        video_id = alias[0] if alias else video_id
        rows = self._select(
            "tenant = ? AND id = ? AND (expires_at IS NULL OR expires_at > ?)", tenant, video_id, now
        )
        return rows[0] if rows else None

    def find_bytes(
        self, tenant: str, sha256: str, now: float, without: Collection[str] = ()
    ) -> StoredVideo | None:
        """The tenant's first upload of these bytes that has not expired, and is none of those `without`."""
        alive = "(expires_at IS NULL OR expires_at > ?)"
        rows = self._select(f"tenant = ? AND sha256 = ? AND {alive} ORDER BY seq", tenant, sha256, now)
        return next((row for row in rows if row.id not in without), None)

    def page(
        self, tenant: str, after: str | None, limit: int, order: Order, now: float, purpose: str | None = None
    ) -> list[StoredVideo]:
        """Up to `limit` videos in order of upload, from the one after `after`; all of them, or of a purpose.

        Raises:
            UnknownNameError: `after` is not a video of this tenant.
        """
        sign, start = (">", 0) if order == "asc" else ("<", 2**62)
        if after is not None:
            row = self._db.execute(
                "SELECT seq FROM videos WHERE tenant = ? AND id = ?", (tenant, after)
            ).fetchone()
            if row is None:
                text = f"after is {after!r}; allowed: the id of a listed video"
                raise UnknownNameError(text, code="video_not_found", param="after")
            start = row[0]
        alive = "(expires_at IS NULL OR expires_at > ?)"
        fits = "purpose = coalesce(?, purpose)"
        where = f"tenant = ? AND seq {sign} ? AND {alive} AND {fits} ORDER BY seq {order} LIMIT ?"
        return self._select(where, tenant, start, now, purpose, limit)

    def delete(self, videos: Sequence[StoredVideo]) -> dict[str, Removed]:
        """All of them or, where that fails, none; what of each that was there is gone with its row."""
        gone: list[tuple[StoredVideo, bool, int]] = []
        delete = "DELETE FROM videos WHERE id = ? RETURNING pixels, length(packet_index)"
        with transaction(self._db):
            for video in videos:
                gone += [(video, *row) for row in self._db.execute(delete, (video.id,)).fetchall()]
        for video, has_pixels, _ in gone:
            self.usage.change(video.tenant, -video.num_bytes if has_pixels else 0, 0, -1)
        unused = {each.sha256: each for each, has_pixels, _ in gone if has_pixels}
        unused = {sha256: each for sha256, each in unused.items() if not self.has_file(sha256)}
        self.usage.num_bytes -= sum(each.num_bytes for each in unused.values())
        return {
            video.id: Removed(video.num_bytes if video is unused.get(video.sha256) else 0, index_bytes)
            for video, _, index_bytes in gone
        }

    def forget_pixels(self, video: StoredVideo) -> Removed:
        """Keep an upload without its file and index; fine if it has none, or is not there."""
        has = "FROM videos WHERE id = ? AND pixels"
        row = self._db.execute(f"SELECT length(packet_index) {has}", (video.id,)).fetchone()
        if row is None:
            return Removed()
        change = "UPDATE videos SET pixels = 0, packet_index = x'' WHERE id = ?"
        self._db.execute(change, (video.id,))
        file_bytes = 0 if self.has_file(video.sha256) else video.num_bytes
        self.usage.change(video.tenant, -video.num_bytes, -file_bytes, 0)
        return Removed(file_bytes, row[0])

    def expired(self, now: float, limit: int) -> list[StoredVideo]:
        return self._select("expires_at <= ? LIMIT ?", now, limit)

    def with_file(self, sha256: str) -> list[StoredVideo]:
        """All uploads that share this file."""
        return self._select("sha256 = ? AND pixels", sha256)

    def has_file(self, sha256: str) -> bool:
        """Whether an upload needs this file."""
        return self._any("sha256 = ? AND pixels", sha256)

    def may_read(self, tenant: str, sha256: str) -> bool:
        """Whether an upload of this tenant does."""
        return self._any("sha256 = ? AND tenant = ? AND pixels", sha256, tenant)

    def has_bytes(self, tenant: str, sha256: str) -> bool:
        """Whether an upload of this tenant has or had these bytes."""
        return self._any("sha256 = ? AND tenant = ?", sha256, tenant)

    def _any(self, where: str, *values: str) -> bool:
        return self._db.execute(f"SELECT 1 FROM videos WHERE {where} LIMIT 1", values).fetchone() is not None

    def sources(self) -> set[tuple[str, str]]:
        """Owners and contents of all uploads."""
        return {(row[0], row[1]) for row in self._db.execute("SELECT DISTINCT tenant, sha256 FROM videos")}

    def digests(self) -> set[str]:
        """Of all files."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT sha256 FROM videos WHERE pixels")}

    def begin_pieces(self, pieces: Pieces) -> None:
        values = tuple(getattr(pieces, name) for name in _PIECES.split(", "))
        self._insert("pieces", _PIECES, values)
        self.usage.change(pieces.tenant, pieces.num_bytes, pieces.num_bytes, 1)

    def update_pieces(self, pieces: Pieces) -> None:
        """What was received by now, and the digest."""
        values = (pieces.received, pieces.expires_at, pieces.sha256, pieces.id)
        self._db.execute("UPDATE pieces SET received = ?, expires_at = ?, sha256 = ? WHERE id = ?", values)

    def delete_pieces(self, pieces: Pieces) -> None:
        if self._db.execute("DELETE FROM pieces WHERE id = ?", (pieces.id,)).rowcount:
            self.usage.change(pieces.tenant, -pieces.num_bytes, -pieces.num_bytes, -1)

    def find_pieces(self, video_id: str) -> Pieces | None:
        row = self._db.execute(f"SELECT {_PIECES} FROM pieces WHERE id = ?", (video_id,)).fetchone()
        return Pieces(*row) if row else None

    def all_pieces(self) -> list[Pieces]:
        return [Pieces(*row) for row in self._db.execute(f"SELECT {_PIECES} FROM pieces")]

    def parts(self, upload_id: str) -> list[UploadPart]:
        """Those that have come of an upload."""
        rows = self._db.execute(f"SELECT {_PARTS} FROM parts WHERE upload_id = ?", (upload_id,))
        return [UploadPart(*row) for row in rows]

    def num_parts(self, tenant: str) -> int:
        """Of all uploads of a tenant."""
        owned = "SELECT count(*) FROM parts JOIN pieces ON pieces.id = upload_id WHERE tenant = ?"
        return self._db.execute(owned, (tenant,)).fetchone()[0]

    def has_part(self, part_id: str) -> bool:
        return self._db.execute("SELECT 1 FROM parts WHERE id = ?", (part_id,)).fetchone() is not None

    def insert_part(self, part: UploadPart, expires_at: float) -> None:
        """One more, with which its upload ends later."""
        with transaction(self._db):
            self._insert("parts", _PARTS, tuple(getattr(part, name) for name in _PARTS.split(", ")))
            change = "UPDATE pieces SET expires_at = ? WHERE id = ?"
            self._db.execute(change, (expires_at, part.upload_id))

    def clocks(self) -> tuple[float, float] | None:
        """What `note_clocks` was last given."""
        return self._db.execute("SELECT age, wall FROM clocks").fetchone()

    def note_clocks(self, clocks: tuple[float, float]) -> None:
        with transaction(self._db):
            self._db.execute("DELETE FROM clocks")
            self._db.execute("INSERT INTO clocks VALUES (?, ?)", clocks)

    def reuse_log(self) -> None:
        """Move what the write-ahead log holds into the tables, so that it begins again and takes no space."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _insert(self, table: str, columns: str, values: tuple[object, ...]) -> None:
        marks = ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)

    def _select(self, where: str, *values: str | float | None) -> list[StoredVideo]:
        rows = self._db.execute(f"SELECT {_COLUMNS}, pixels FROM videos WHERE {where}", values).fetchall()
        return [
            StoredVideo(
                *(id, tenant, sha256, num_bytes, filename, created, expires),
                *(_facts(facts), purpose, bool(pixels)),
            )
            for id, tenant, sha256, num_bytes, filename, created, expires, facts, purpose, pixels in rows
        ]


def _facts(text: str) -> VideoFacts:
    values = json.loads(text)
    return VideoFacts(**values | {"warnings": tuple(values.get("warnings", ()))})
