"""A video on this side: a file, bytes or an open file, read in blocks and never whole."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from bt_model.errors import BtchatError, InvalidValueError

BLOCK_BYTES = 256 * 1024

UploadSource: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO


@dataclass(frozen=True, slots=True)
class LocalVideo:
    """What is to be sent; `open` gives its bytes from the beginning."""

    name: str
    num_bytes: int
    open: Callable[[], AbstractContextManager[BinaryIO]]

    @classmethod
    def of(cls, source: UploadSource) -> "LocalVideo":
        """A path, bytes, or a binary file that can seek; of that what follows its position.

        Raises:
            OSError: the file cannot be read.
            InvalidValueError: something else, or nothing.
        """
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            with path.open("rb") as file:  # a folder, a wrong path and a wrong mode are told at once
                size = file.seek(0, io.SEEK_END)
            found = cls(_text(path.name), size, lambda: path.open("rb"))
        elif isinstance(source, bytes | bytearray | memoryview):
            found = cls("", len(source), lambda: io.BytesIO(source))
        elif hasattr(source, "seekable") and source.seekable():
            begin = source.tell()
            size = source.seek(0, io.SEEK_END) - begin

            def rewind() -> AbstractContextManager[BinaryIO]:
                source.seek(begin)
                return nullcontext(source)

            found = cls(_text(Path(str(getattr(source, "name", ""))).name), size, rewind)
        else:
            allowed = "a path, bytes, or a binary file that can seek"
            raise InvalidValueError(f"video is a {type(source).__name__}; allowed: {allowed}", param="video")
        if not found.num_bytes:
            raise InvalidValueError(f"{found.name or 'video'} is empty; allowed: a video", param="video")
        return found

    def blocks(self, begin: int = 0, num_bytes: int | None = None) -> Iterator[bytes]:
        """So many bytes from `begin` on, all of them without a number.

        Raises:
            BtchatError: there are fewer by now.
        """
        left = self.num_bytes - begin if num_bytes is None else num_bytes
        with self.open() as file:
            file.seek(begin, io.SEEK_CUR)
            while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
                left -= len(block)
                yield block
        if left > 0:
            raise BtchatError(f"{self.name or 'the video'} became shorter while it was read; send it again")

    def sha256(self) -> str:
        """In hexadecimal digits."""
        digest = hashlib.sha256()
        for block in self.blocks():
            digest.update(block)
        return digest.hexdigest()


def _text(name: str) -> str:
    """A name that can be sent; on disk it may be any bytes."""
    return name.encode(errors="replace").decode()
