"""Files of uploads, named by SHA-256, stored once, and deleted after the last reader.

Order of a commit: sync the file, rename it, sync the folder, insert the row. Everything here is done by the
thread of the storage.
"""

import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bt_model.errors import PixelsForgottenError, UnknownNameError
from server.uploads.disk import is_full
from server.uploads.receive import Received, VideoFile
from server.uploads.rows import Removed, StoredVideo
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

    def enter(self, video: StoredVideo) -> VideoFile | UnknownNameError:
        """One more reader of these bytes, or why its owner has none, though who reads them may have them.

        On a full disk a deletion may have come as far as the file, and not to the row.
        """
        self._readers[video.sha256] += 1
        path = self.path(video.sha256)
        source = video.tenant, video.sha256
        known, may_read = self._catalog.known(*source), self._catalog.may_read(*source)
        if not may_read and self._catalog.find(video.tenant, video.id, self._storage.age.now()):
            text = f"the pixels of video {video.id} were deleted and its tokens kept"
            text = f"{text}; an upload of the same bytes brings them back"
            return PixelsForgottenError(text, self._tokens.samplings(*source))
        if known is None or not (may_read and self._disk.exists(path)):
            return UnknownNameError(f"video {video.id} was deleted", code="video_deleted", param="video")
        return VideoFile(path, known[1])

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
        has_room = received.pieces_id or (known and known.has_pixels)  # pieces were checked when they began
        if not has_room:
            num_videos, file_bytes = int(known is None), video.num_bytes if is_new else 0
            self._storage.usage.check(video.tenant, video.num_bytes, file_bytes, num_videos)
        try:
            if is_new:
                self._storage.durability.rename(source, blob)
            if known is None:
                self._catalog.insert(video, index, received.pieces_id)
            else:
                video = self._catalog.renew(known, video, index, received.pieces_id)
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

    def delete(self, videos: Sequence[StoredVideo]) -> dict[str, Removed]:
        """Delete uploads, with their tokens those that were their tenant's last with their bytes.

        It works on a disk without any space: rows are deleted with the reserve, or else after the files.
        """
        try:
            removed = self._storage.folder.with_reserve(lambda: self._catalog.delete(videos))
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            for video in videos:
                owners = [each.id for each in self._catalog.with_file(video.sha256)]
                if video.sha256 not in self._readers and owners == [video.id]:
                    self._disk.unlink(self.path(video.sha256))
            self._storage.reuse_log()
            try:
                removed = self._catalog.delete(videos)
            except sqlite3.Error:
                self._unlisted |= {video.id: video for video in videos}
                raise
        for video in videos:
            self._free(video.sha256)
            if not self._catalog.has_bytes(video.tenant, video.sha256):
                files, num_bytes = self._tokens.remove(video.tenant, video.sha256)
                known = removed.get(video.id, Removed())
                removed[video.id] = replace(known, token_files=files, token_bytes=num_bytes, is_last=True)
        self._storage.fill_reserve()
        return removed

    def forget_pixels(self, video: StoredVideo) -> Removed:
        """Keep of an upload its tokens alone. Where the row cannot be changed, all is as it was."""
        removed = self._storage.folder.with_reserve(lambda: self._catalog.forget_pixels(video))
        self._free(video.sha256)
        self._storage.fill_reserve()
        return removed

    def retry(self) -> list[StoredVideo]:
        """Delete files and rows that could not be deleted before; those that were their tenant's last."""
        unfreed, self._unfreed = self._unfreed, set()
        for sha256 in unfreed:
            self._free(sha256)
        unlisted, self._unlisted = [*self._unlisted.values()], {}
        try:
            return self.delete_all(unlisted) if unlisted else []
        except sqlite3.Error:  # the disk is still full
            return []

    def delete_all(self, videos: Sequence[StoredVideo]) -> list[StoredVideo]:
        """As `delete`; returns those that were their tenant's last with their bytes."""
        removed = self.delete(videos)
        return [video for video in videos if video.id in removed and removed[video.id].is_last]

    def _free(self, sha256: str) -> None:
        if sha256 not in self._readers and not self._catalog.has_file(sha256):
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
        lost = [video for sha256 in known - present for video in self._catalog.with_file(sha256)]
        if lost:
            log.error("%d uploads are dropped: their files are gone", len(lost))
            self._storage.folder.with_reserve(lambda: self._catalog.delete(lost))
        self._tokens.sweep(self._catalog.sources())

    def _sweep_pieces(self) -> set[str]:
        """Names of the files that uploads in pieces go on with."""
        kept = set[str]()
        for pieces in self._catalog.all_pieces():
            path, blob = self._storage.folder.incoming / pieces.id, self.path(pieces.sha256)
            if not self._disk.exists(path) and pieces.sha256 and not self._catalog.has_file(pieces.sha256):
                with contextlib.suppress(FileNotFoundError):
                    self._disk.rename(blob, path)  # the commit was interrupted before its row
            if self._disk.exists(path) and self._disk.size(path) >= pieces.received:
                kept |= {pieces.id, *(part.id for part in self._catalog.parts(pieces.id))}
            else:
                self._storage.folder.with_reserve(lambda pieces=pieces: self._catalog.delete_pieces(pieces))
        return kept
