"""A picture in memory as a file that decode children are handed."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bt_model.video import picture_list

_FPS = 1.0


@contextmanager
def picture_file(picture: bytes) -> Generator[Path]:
    """A list of this one picture, so that it is read as one of a list is; nothing goes to a disk."""
    writer = picture_list.PictureWriter()
    memory = os.memfd_create("picture", os.MFD_CLOEXEC)
    try:
        with os.fdopen(memory, "wb", closefd=False) as file:
            file.writelines((picture_list.head(_FPS), writer.feed(picture), writer.end()))
        yield Path(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
