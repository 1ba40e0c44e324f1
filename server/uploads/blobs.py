"""Files of uploads, named by SHA-256, stored once, and deleted after the last reader.

Order of a commit: sync the file, rename it, sync the folder, insert the row. Everything here is done by the
thread of the storage.
"""

import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from server.uploads.disk import is_full
from server.uploads.receive import Received, VideoFile
from server.uploads.rows import StoredVideo
from server.uploads.storage import Storage
from server.uploads.token_folders import TokenFolders

log = logging.getLogger(__name__)


class Blobs:
    """Rows and their files, changed together."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._disk = storage.disk
        self._catalog = storage.catalog
        self._tokens = TokenFolders(storage.folder.tokens)
        self._readers = Counter[str]()
        self._unfreed = set[str]()  # files that could not be deleted
        self._unlisted: dict[str, StoredVideo] = {}  # whose files are gone, and not yet their rows

    def path(self, sha256: str) -> Path:
        return self._storage.folder.videos / sha256

    def enter(self, video: StoredVideo) -> VideoFile | None:
        """One more reader of these bytes; None where only who reads them has them, and not their owner.

        On a full disk a deletion may have come as far as the file, and not to the row.
        """
        self._readers[video.sha256] += 1
        path = self.path(video.sha256)
        known = self._catalog.known(video.tenant, video.sha256)
        return VideoFile(path, known[1]) if known and self._disk.exists(path) else None

    def leave(self, sha256: str) -> None:
        self._readers[sha256] -= 1
        if not self._readers[sha256]:
            del self._readers[sha256]
        self._free(sha256)

    def commit(self, received: Received, video: StoredVideo, index: bytes) -> StoredVideo:
        """Move a synced file here and insert its row; where that fails, the file is where it was.

        Returns:
            The tenant's upload of the same bytes, if there is one, which is renewed; otherwise the video.

        Raises:
            Problem: too much is stored, or nothing more may be.
            OSError, sqlite3.Error: the disk is full or failing.
        """
        source, blob = received.path, self.path(video.sha256)
        is_new = not self._disk.exists(blob)
        self._storage.durability.check()
        known = self._same(video)
        if known is None and not received.pieces_id:  # pieces were checked when they began
            self._storage.usage.check(video.tenant, video.num_bytes, video.num_bytes if is_new else 0)
        try:
            if is_new:
                self._storage.durability.rename(source, blob)
            if known is None:
                self._catalog.insert(video, index, received.pieces_id)
            else:
                video = self._catalog.renew(known, video, received.pieces_id)
        except (OSError, sqlite3.Error):
            if is_new and self._disk.exists(blob):
                self._disk.rename(blob, source)
            raise
        if not is_new:
            self._disk.unlink(source)
        self._tokens.add(video.tenant, video.sha256)
        return video

    def _same(self, video: StoredVideo) -> StoredVideo | None:
        """The tenant's upload of these bytes; one that a full disk has deleted only by half is deleted."""
        now = self._storage.age.now()
        return self._catalog.find_bytes(video.tenant, video.sha256, now, self._unlisted.keys())

    def discard(self, path: Path) -> None:
        """Delete what was received, if it is still there; otherwise the next start does it."""
        try:
            self._disk.unlink(path)
        except OSError as error:
            log.warning("a file that was not stored is still there: %s", error)

    def delete(self, videos: Sequence[StoredVideo]) -> list[StoredVideo]:
        """Delete uploads; returns those that were their tenant's last with their bytes.

        It works on a disk without any space: rows are deleted with the reserve, or else after the files.
        """
        try:
            self._storage.folder.with_reserve(lambda: self._catalog.delete(videos))
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            for video in videos:
                if video.sha256 not in self._readers and len(self._catalog.with_bytes(video.sha256)) == 1:
                    self._disk.unlink(self.path(video.sha256))
            self._storage.reuse_log()
            try:
                self._catalog.delete(videos)
            except sqlite3.Error:
                self._unlisted |= {video.id: video for video in videos}
                raise
        for video in videos:
            self._free(video.sha256)
        last = [video for video in videos if not self._catalog.has_bytes(video.sha256, video.tenant)]
        for video in last:
            self._tokens.remove(video.tenant, video.sha256)
        self._storage.fill_reserve()
        return last

    def retry(self) -> list[StoredVideo]:
        """Delete files and rows that could not be deleted before; returns what `delete` does."""
        unfreed, self._unfreed = self._unfreed, set()
        for sha256 in unfreed:
            self._free(sha256)
        unlisted, self._unlisted = [*self._unlisted.values()], {}
        try:
            return self.delete(unlisted) if unlisted else []
        except sqlite3.Error:  # the disk is still full
            return []

    def _free(self, sha256: str) -> None:
        if sha256 not in self._readers and not self._catalog.has_bytes(sha256):
            try:
                self._disk.unlink(self.path(sha256))
            except OSError as error:
                log.warning("a deleted video's file is still there: %s", error)
                self._unfreed.add(sha256)

    def sweep(self) -> None:
        """At the start: delete files without a row and rows without a file, which an interrupted run left."""
        incoming = self._sweep_pieces()
        for name in set(self._disk.names(self._storage.folder.incoming)) - incoming:
            self.discard(self._storage.folder.incoming / name)
        known, present = self._catalog.digests(), set(self._disk.names(self._storage.folder.videos))
        for name in present - known:
            self.discard(self.path(name))
        lost = [video for sha256 in known - present for video in self._catalog.with_bytes(sha256)]
        if lost:
            log.error("%d uploads are dropped: their files are gone", len(lost))
            self._storage.folder.with_reserve(lambda: self._catalog.delete(lost))
        self._tokens.sweep(self._catalog.sources())

    def _sweep_pieces(self) -> set[str]:
        """Names of the files that uploads in pieces go on with."""
        kept = set[str]()
        for pieces in self._catalog.all_pieces():
            path, blob = self._storage.folder.incoming / pieces.id, self.path(pieces.sha256)
            if not self._disk.exists(path) and pieces.sha256 and not self._catalog.has_bytes(pieces.sha256):
                with contextlib.suppress(FileNotFoundError):
                    self._disk.rename(blob, path)  # the commit was interrupted before its row
            if self._disk.exists(path) and self._disk.size(path) >= pieces.received:
                kept |= {pieces.id, *(part.id for part in self._catalog.parts(pieces.id))}
            else:
                self._storage.folder.with_reserve(lambda pieces=pieces: self._catalog.delete_pieces(pieces))
        return kept
