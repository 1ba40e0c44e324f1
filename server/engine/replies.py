"""What comes back from the engine, as its client hands it on."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bt_model.errors import BtchatError
from bt_model.types import FrameSize, ModelCard
from server.engine.errors import exception_of
from server.engine.wire import Done, Encoded, Failed, Features, Opened, Piece, Ready, Stats, TokenData

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


@dataclass(frozen=True, slots=True)
class Announcement:
    """What a ready engine says of itself: the first model's card, and the names of all that can be asked."""

    card: ModelCard
    models: tuple[str, ...]

    @classmethod
    def of(cls, ready: Ready) -> "Announcement":
        return cls(card_of(ready.card), tuple(ready.models))


def card_of(fields: Mapping[str, Any]) -> ModelCard:
    """A card from its fields; the wire turns tuples into lists."""
    given = dict(fields)
    size = FrameSize(**given.pop("frame_size"))
    accepted, notes = given.pop("accepted", ()), given.pop("notes", ())
    return ModelCard(**given, frame_size=size, accepted=tuple(accepted), notes=tuple(notes))
