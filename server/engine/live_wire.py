"""Messages about live sessions, from the web process to the engine process."""

from dataclasses import dataclass
from typing import Any, ClassVar

from server.engine.message import Message


@dataclass(frozen=True, slots=True)
class LiveOpen(Message):
    """Keep a window of up to `max_frames` frames for a model. Answered by `Opened`."""

    id: str
    session: str
    model: str
    max_frames: int


@dataclass(frozen=True, slots=True)
class LiveFrame(Message):
    """A session's next frame. Descriptor: uint8 (height, width, 3). Answered by `Encoded`.

    Frames that are kept are numbered from 0 without a gap; one that failed leaves its number to the next.
    """

    id: str
    session: str
    number: int
    height: int
    width: int
    num_fds: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class LiveEncode(Message):
    """Put the tokens of these frames of a session's window into the cache. Answered by `Encoded`."""

    id: str
    session: str
    numbers: list[int]
    key: bytes
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LiveClose(Message):
    """Give a session's window up. No answer."""

    session: str
