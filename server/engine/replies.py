"""What comes back from the engine, as its client hands it on."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bt_model import errors
from bt_model.errors import BtchatError, EngineError
from server.engine.wire import Done, Encoded, Failed, Features, Opened, Piece, Stats, TokenData

Reply = Opened | Features | Encoded | TokenData | Stats | Piece | Done | Failed

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Pooled tokens as the bytes of a safetensors file with the tensor `tokens`."""

    content: bytes
    shape: tuple[int, ...]
    dtype: str

    @property
    def array(self) -> bytes:
        """The numbers alone: what follows the length of the header and the header."""
        header_bytes = int.from_bytes(self.content[:_LENGTH_BYTES], "little")
        return self.content[_LENGTH_BYTES + header_bytes :]


@dataclass(frozen=True, slots=True)
class ClipEncoding:
    """How one clip was encoded: the seconds it took, and the models that could not."""

    seconds: float
    failures: Mapping[str, BtchatError]


@dataclass(slots=True)
class Inbox:
    """Replies to one request that nobody has read yet."""

    replies: asyncio.Queue[tuple[Reply, list[int]]] = field(default_factory=asyncio.Queue)
    is_finished: bool = False

    def put(self, reply: Reply, fds: list[int]) -> None:
        self.is_finished = self.is_finished or not isinstance(reply, Piece)
        self.replies.put_nowait((reply, fds))

    async def get(self) -> tuple[Reply, list[int]]:
        """The next reply; one that failed is raised."""
        reply, fds = await self.replies.get()
        if isinstance(reply, Failed):
            raise exception_of(reply.error, reply.message, reply.code, reply.param)
        return reply, fds


def exception_of(name: str, message: str, code: str, param: str | None) -> BtchatError:
    """The engine's error, in its own class."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BtchatError)):
        kind = EngineError
    return kind(message, code=code, param=param)


def close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
