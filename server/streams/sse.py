"""An answer as server-sent events: chunks in OpenAI's order, exactly one end, comments while waiting."""

import json
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sse_starlette import EventSourceResponse, ServerSentEvent

from server.answers.question import AnswerEvent, Finished, Progress
from server.features.steps import WaitStep
from server.log.request import note
from server.problems import Problem, problem_of
from server.settings import Settings
from server.streams.reader import EventReader
from server.streams.timing import server_timing

log = logging.getLogger(__name__)

_SEPARATOR = "\n"
_LOOK_SECONDS = 0.25  # how often it is looked whether the step is another one
_END = ServerSentEvent("[DONE]", sep=_SEPARATOR)


class Shape(Protocol):
    """How answers look to a client."""

    @property
    def answers(self) -> Sequence[Progress]: ...

    @property
    def is_done_sent(self) -> bool:
        """Whether [DONE] ends a stream."""
        ...

    def opening(self) -> list[dict[str, Any]]: ...

    def chunks(self, event: AnswerEvent) -> list[dict[str, Any]]: ...

    def closing(self, ends: Sequence[Finished]) -> list[dict[str, Any]]: ...

    def broken(self, problem: Problem) -> list[dict[str, Any]]: ...

    def whole(self, events: Sequence[AnswerEvent]) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class AnswerStream:
    """A streamed response."""

    reader: EventReader
    shape: Shape

    def response(self, settings: Settings) -> EventSourceResponse:
        """The response; comments tell the progress."""
        return EventSourceResponse(
            self._events(),
            headers=server_timing(self.shape.answers[0].seconds),
            sep=_SEPARATOR,
            ping=settings.ping_seconds,
            ping_message_factory=self._comment,
            shutdown_grace_period=settings.grace_seconds + 1,  # before that the server ends it, with an event
        )

    def _comment(self) -> ServerSentEvent:
        """What the first answer waits for: the way to all answers is the same."""
        return ServerSentEvent(comment=str(self.shape.answers[0].step), sep=_SEPARATOR)

    async def _opening(self) -> AsyncGenerator[ServerSentEvent]:
        """What comes before all answers, and a comment for each step until one of them says something."""
        for body in self.shape.opening():
            yield _event(body)
        shown: WaitStep | None = None
        while True:
            if shown != (step := self.shape.answers[0].step):
                shown = step
                yield self._comment()
            if await self.reader.is_ready(_LOOK_SECONDS):
                return

    async def _events(self) -> AsyncGenerator[ServerSentEvent]:
        ends: list[Finished] = []
        try:
            async for sent in self._opening():
                yield sent
            async for event in self.reader:
                if isinstance(event, Finished):
                    ends.append(event)
                for body in self.shape.chunks(event):
                    yield _event(body)
            for body in self.shape.closing(ends):
                yield _event(body)
        except Exception as error:  # the status has been sent: the error must be an event of the stream
            problem = problem_of(error)
            if error is not problem:
                log.exception("a stream failed")
            note(code=problem.code)
            for body in self.shape.broken(problem):
                yield _event(body)
        if self.shape.is_done_sent:
            yield _END


def _event(body: dict[str, Any]) -> ServerSentEvent:
    """Where the object has a type, the event has its name."""
    return ServerSentEvent(json.dumps(body), event=body.get("type"), sep=_SEPARATOR)
