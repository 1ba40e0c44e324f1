"""An answer as server-sent events: chunks in OpenAI's order and exactly one end, with comments in between."""

import json
import logging
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.exceptions import HTTPException

from bt_model.errors import BtchatError
from server.chat_flow import Text
from server.problems import problem_of
from server.settings import Settings
from server.streams.completion import CompletionShape
from server.streams.reader import AnswerReader

log = logging.getLogger(__name__)

_SEPARATOR = "\n"
_END = ServerSentEvent("[DONE]", sep=_SEPARATOR)


@dataclass(frozen=True, slots=True)
class AnswerStream:
    """One answer to be streamed."""

    reader: AnswerReader
    shape: CompletionShape
    include_usage: bool

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
        return ServerSentEvent(comment=self.reader.answer.stage, sep=_SEPARATOR)

    async def _events(self) -> AsyncGenerator[ServerSentEvent]:
        try:
            yield _event(self.shape.role_chunk())
            yield self._comment()
            async for event in self.reader:
                if isinstance(event, Text):
                    yield _event(self.shape.text_chunk(event.text))
                    continue
                yield _event(self.shape.finish_chunk(event))
                if self.include_usage:
                    yield _event(self.shape.usage_chunk(event.usage))
        except (BtchatError, HTTPException, TimeoutError) as error:
            yield _event(problem_of(error).body())
        except Exception as error:  # the status is spent: the stream itself must say that it failed
            log.exception("a stream failed")
            yield _event(problem_of(error).body())
        yield _END


def _event(body: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(body), sep=_SEPARATOR)
