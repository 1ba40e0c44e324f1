"""A live session's window in the engine process, as the web process sees it."""

import contextlib
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from bt_model.errors import EngineDeadError
from bt_model.types import ModelCard
from server.engine import wire
from server.engine.client import EngineClient
from server.engine.replies import card_of
from server.engine.wire import Encoded, Opened


class EngineWindow:
    """The frames of one session that the engine keeps, as what its trunk made of them.

    Every call that waits may raise EngineDeadError, also where an engine of before had the window.
    """

    def __init__(self, engine: EngineClient) -> None:
        self.session = secrets.token_hex(16)
        self._engine = engine

    async def open(self, model: str, max_frames: int) -> ModelCard:
        """Reserve room for so many frames of a model, which is loaded where it is not.

        Raises:
            InvalidValueError: more than any session may have.
            EngineError: other sessions have the room (code overloaded), or the model cannot be had.
        """
        message = wire.LiveOpen(self._engine.new_id(), self.session, model, max_frames)
        return card_of((await self._engine.request(message, Opened)).card)

    async def see(self, number: int, fd: int, side: int) -> float:
        """Keep one more frame, a memory file of uint8 (side, side, 3) that the caller keeps; the seconds.

        Raises:
            EngineError: the model fails on it.
        """
        message = wire.LiveFrame(self._engine.new_id(), self.session, number, side, side)
        return (await self._engine.request(message, Encoded, [os.dup(fd)])).seconds

    async def encode(self, numbers: Sequence[int], key: bytes, receipt: Mapping[str, Any]) -> float:
        """Put the tokens of these frames into the cache; the seconds.

        Raises:
            InvalidValueError: not a number of frames that the model takes.
            FeaturesMissingError: newer frames have taken the place of some.
        """
        message = wire.LiveEncode(self._engine.new_id(), self.session, list(numbers), key, dict(receipt))
        return (await self._engine.request(message, Encoded)).seconds

    def forget(self, key: bytes) -> None:
        """Drop the tokens of a question that has its answer."""
        self._engine.forget(key)

    def close(self) -> None:
        """Give everything up; an engine that is gone has nothing."""
        with contextlib.suppress(EngineDeadError):
            self._engine.send(wire.LiveClose(self.session))


def is_lost(error: Exception) -> bool:
    """Whether the engine that had the window is gone; of an error, or of the problem that tells of it."""
    return getattr(error, "code", None) == EngineDeadError.code
