"""An answer as server-sent events: chunks in OpenAI's order and exactly one end, with comments in between."""

import json
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from bt_model.errors import BtchatError
from server.problems import problem_of
from server.settings import Settings
from server.streams.reader import EventReader

log = logging.getLogger(__name__)

_E = TypeVar("_E")
_E_contra = TypeVar("_E_contra", contravariant=True)
_SEPARATOR = "\n"
_END = ServerSentEvent("[DONE]", sep=_SEPARATOR)


class Shape(Protocol[_E_contra]):
    """How events of one kind look to a client; `stage` is what is being done now."""

    @property
    def stage(self) -> str: ...

    def opening(self) -> list[dict[str, Any]]: ...

    def chunks(self, event: _E_contra) -> list[dict[str, Any]]: ...

    def closing(self) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class AnswerStream(Generic[_E]):
    """Answers to be streamed."""

    reader: EventReader[_E]
    shape: Shape[_E]

    def response(self, settings: Settings) -> EventSourceResponse:
        """Comments say what is being done; a client that does not read is dropped."""
        return EventSourceResponse(
            self._events(),
            sep=_SEPARATOR,
            ping=settings.ping_seconds,
            ping_message_factory=self._comment,
            send_timeout=settings.stream_stall_seconds,
            shutdown_grace_period=settings.grace_seconds,
        )

    def _comment(self) -> ServerSentEvent:
        return ServerSentEvent(comment=self.shape.stage, sep=_SEPARATOR)

    async def _events(self) -> AsyncGenerator[ServerSentEvent]:
        try:
            for body in self.shape.opening():
                yield _event(body)
            yield self._comment()
            async for event in self.reader:
                for body in self.shape.chunks(event):
                    yield _event(body)
            for body in self.shape.closing():
                yield _event(body)
        except (BtchatError, HTTPException, TimeoutError) as error:
            yield _event(problem_of(error).body())
        except Exception as error:  # the status is spent: the stream itself must say that it failed
            log.exception("a stream failed")
            yield _event(problem_of(error).body())
        yield _END


def _event(body: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(body), sep=_SEPARATOR)
