"""Which container a file is, by its first bytes, and how much of it is there."""

import os
from dataclasses import dataclass
from typing import BinaryIO

from bt_model.video import refusals
from bt_model.video.extent import expected_bytes
from bt_model.video.formats import HEAD_BYTES, Container, container_of

_MAX_PARTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Sniffed:
    """A file's container, its bytes, and how many there are by its own account, as far as it has one."""

    container: Container
    num_bytes: int
    expected_bytes: int

    @property
    def is_cut(self) -> bool:
        return self.num_bytes < self.expected_bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a client should know."""
        missing = self.expected_bytes - self.num_bytes
        if missing <= 0:
            return ()
        how_much = "its end is" if missing == 1 else f"{missing} of {self.expected_bytes} bytes or more are"
        return (f"the file is cut off: {how_much} missing; what is complete is used",)


def sniff(file: BinaryIO, max_parts: int = _MAX_PARTS) -> Sniffed:
    """What an open file is; leaves it at its start.

    Args:
        file: is read at its start and at the heads of its parts.
        max_parts: most parts that are looked at; what has more is taken for whole.

    Raises:
        VideoError: codes `empty_file`, `unsupported_media`, and `truncated_video` without an index.
    """
    num_bytes = file.seek(0, os.SEEK_END)
    if num_bytes == 0:
        raise refusals.empty_file()
    file.seek(0)
    container = container_of(file.read(HEAD_BYTES))
    if container is None:
        raise refusals.unsupported_container()
    expected = expected_bytes(file, container, num_bytes, max_parts)
    file.seek(0)
    return Sniffed(container, num_bytes, expected)
