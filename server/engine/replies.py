"""Replies of the engine as the client returns them."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bt_model.errors import BtchatError
from bt_model.types import FrameSize, ModelCard, TokenBound
from server.engine.errors import exception_of
from server.engine.wire import (
    Compiled,
    Done,
    Encoded,
    Failed,
    Features,
    Measured,
    Opened,
    Piece,
    Ready,
    Stats,
    TokenData,
)

_LENGTH_BYTES = 8


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Pooled tokens as the bytes of a safetensors file with the tensor `tokens`."""

    id: str
    content: bytes
    shape: tuple[int, ...]
    dtype: str

    @classmethod
    def read(cls, message: TokenData, fd: int) -> "TokenFile":
        content = os.pread(fd, message.num_bytes, 0)
        return cls(message.id, content, tuple(message.shape), message.dtype)

    @property
    def array(self) -> bytes:
        """The array's bytes alone, without the safetensors header."""
        header_bytes = int.from_bytes(self.content[:_LENGTH_BYTES], "little")
        return self.content[_LENGTH_BYTES + header_bytes :]


Reply = Opened | Compiled | Features | Encoded | TokenFile | Measured | Stats | Piece | Done | Failed


@dataclass(frozen=True, slots=True)
class ClipEncoding:
    """Result of encoding one clip: seconds, and the errors of models that failed."""

    seconds: float
    failures: Mapping[str, BtchatError]


@dataclass(slots=True)
class Inbox:
    """Unread replies to one request."""

    replies: asyncio.Queue[Reply] = field(default_factory=asyncio.Queue)
    is_finished: bool = False

    def put(self, reply: Reply) -> None:
        self.is_finished = self.is_finished or not isinstance(reply, Piece)
        self.replies.put_nowait(reply)

    async def get(self) -> Reply:
        """The next reply; raises the error of a `Failed`."""
        reply = await self.replies.get()
        if isinstance(reply, Failed):
            raise exception_of(reply.error, reply.message, reply.code, reply.param)
        return reply


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """A ready engine's first model, and the names of all that can be asked."""

    card: ModelCard
    models: tuple[str, ...]

    @classmethod
    def of(cls, ready: Ready) -> "EngineInfo":
        return cls(card_of(ready.card), tuple(ready.models))


def card_of(fields: Mapping[str, Any]) -> ModelCard:
    """A card from its fields; msgpack turns tuples into lists."""
    given = dict(fields)
    size = FrameSize(**given.pop("frame_size"))
    accepted, notes = given.pop("accepted", ()), given.pop("notes", ())
    bound = given.pop("text_bound", None)
    return ModelCard(
        **given,
        frame_size=size,
        accepted=tuple(accepted),
        notes=tuple(notes),
        text_bound=None if bound is None else TokenBound(**bound),
    )
