"""Questions of one session: answered at once, told one after the other."""

import asyncio
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

from bt_model.errors import BtchatError
from bt_model.types import GenerateOptions, Place, Sampling
from server.admission import Admission
from server.answers.flow import ChatFlow
from server.answers.question import Broken, Finished, Question, Text
from server.bodies.dialogue import MessageParts, conversation_of
from server.bodies.live import error_message
from server.engine.live import is_lost
from server.features.clips import ShownClip
from server.live.talk import Talk
from server.live.window import AskedWindow, SessionWindow
from server.problems import problem_of
from server.streams.reader import EventReader


@dataclass(frozen=True, slots=True)
class AskedModel:
    """Of all questions of a session: who answers, how, about how many frames, and what stands before."""

    tenant: str
    model: str
    options: GenerateOptions
    num_frames: int | None
    system_prompt: str | None

    def question(self, text: str, window: AskedWindow) -> Question:
        """Raises ContextLengthError for more text than fits any model."""
        instructions = [MessageParts("system", [self.system_prompt])] if self.system_prompt else []
        said = conversation_of([*instructions, MessageParts("user", [text])])
        place = Place(len(said.turns) - 1, 0)
        clip = ShownClip(window, Sampling(num_frames=self.num_frames), place)
        return Question(self.tenant, (self.model,), said.turns, self.options, (clip,))


class Questions:
    """Tells each answer whole, though the next is being computed meanwhile."""

    def __init__(
        self, asked: AskedModel, flow: ChatFlow, window: SessionWindow, admission: Admission, talk: Talk
    ) -> None:
        self._asked = asked
        self._flow = flow
        self._window = window
        self._admission = admission
        self._talk = talk
        self._turn = asyncio.Lock()

    async def answer(self, text: str, window: AskedWindow) -> None:
        """Let in as a request is, and tell the answer, or why there is none.

        Raises:
            BtchatError: the engine that had the frames is gone.
            WebSocketDisconnect: the client has left.
        """
        tenant = self._asked.tenant
        try:
            question = self._asked.question(text, window)
            with self._admission.enter(tenant):
                self._admission.rates.require_tokens(tenant)
                self._admission.rates.count_request(tenant)
                reader = EventReader(1)
                async with self._flow.answer(question, reader.put), self._turn:
                    await self._tell(reader, window.query)
        except (BtchatError, HTTPException, TimeoutError) as error:
            if is_lost(error):
                raise
            await self._talk.say(error_message(problem_of(error), window.query))
        finally:
            self._window.forget(window.query)

    async def _tell(self, reader: EventReader, query: int) -> None:
        said: list[str] = []
        async for event in reader:
            if isinstance(event, Broken):
                raise event.problem
            if not said:
                await self._talk.say({"type": "response.start", "query": query})
                said.append("")
            if isinstance(event, Text):
                said.append(event.text)
                await self._talk.say({"type": "response.text.delta", "delta": event.text, "query": query})
            else:
                await self._talk.say(_done("".join(said), event, query))


def _done(text: str, end: Finished, query: int) -> dict[str, Any]:
    """The end of an answer; its receipt has no request, as nobody could ask about these frames again."""
    usage = {"prompt_tokens": end.usage.prompt, "completion_tokens": end.usage.completion}
    return {
        "type": "response.text.done",
        "text": text,
        "query": query,
        "finish_reason": end.reason,
        "usage": {**usage, "total_tokens": end.usage.total},
        "receipt": {name: value for name, value in end.receipt.items() if name != "request"},
    }
