"""Questions that end while they are being handed to their model."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bt_model.generation.request import Delta, Event, Finish, GenTiming
from server.engine.wire import Ask, Done, Message, Piece
from server.worker.answering import Answering
from server.worker.models import Lease, ModelPool

ASK = Ask("a", "m", b"", [["user", "hello"]], {}, 10.0)
CANCELLED = Finish("cancelled", 3, 1, 0, GenTiming(0.1, 0.2, 0.3))


class OneModel:
    """A stand-in of `ModelPool` with one loaded model, whose prompts wait for `gate`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.prompt_begun = threading.Event()
        self.submitted = threading.Event()
        self.error: Exception | None = None
        self.calls: list[str] = []
        self.num_borrowed = 0
        self.sink: Any = None
        engine = SimpleNamespace(submit=self._submit, cancel=lambda _: self.calls.append("cancel"))
        text = SimpleNamespace(push=lambda ids: "text", finish=lambda: "", stopped=False)
        chat = SimpleNamespace(request=self._request, text_stream=lambda _: text)
        self._model = cast(Any, SimpleNamespace(name="m", chat=chat, engine=engine))

    @asynccontextmanager
    async def borrowed(self, names: list[str]) -> AsyncGenerator[Lease]:
        self.num_borrowed += 1
        try:
            yield Lease({"m": self._model})
        finally:
            self.num_borrowed -= 1

    def emit(self, *events: Event) -> None:
        for event in events:
            self.sink(event)

    def _submit(self, _request: object, sink: object) -> None:
        self.calls.append("submit")
        self.sink = sink
        self.submitted.set()

    def _request(self, *_: object, **__: object) -> object:
        self.prompt_begun.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(id="a", num_video_tokens=0)


def answering(models: OneModel) -> tuple[Answering, list[Message]]:
    sent = list[Message]()
    return Answering(cast("ModelPool", models), lambda _: cast(Any, None), sent.append), sent


async def test_a_question_that_is_dropped_while_its_prompt_is_built_gives_its_model_back() -> None:
    models = OneModel()
    answers, sent = answering(models)
    task = asyncio.create_task(answers.answer(ASK))
    await asyncio.to_thread(models.prompt_begun.wait, 10)
    assert not answers.cancel("a")  # no generation thread knows it: the task itself is ended
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    models.gate.set()
    assert (models.num_borrowed, models.calls, sent) == (0, [], [])


async def test_one_that_is_cancelled_later_is_ended_by_its_engine() -> None:
    models = OneModel()
    models.gate.set()
    answers, sent = answering(models)
    task = asyncio.create_task(answers.answer(ASK))
    await asyncio.to_thread(models.submitted.wait, 10)
    models.emit(Delta((1,)))
    assert answers.cancel("a")
    models.emit(CANCELLED)
    done = await task
    assert isinstance(done, Done)
    assert (done.reason, done.usage["completion"], done.seconds["prefill"]) == ("cancelled", 1, 0.2)
    assert sent == [Piece("a", "text", 1)]
    assert (models.calls, models.num_borrowed, answers.cancel("a")) == (["submit", "cancel"], 0, False)


@pytest.mark.parametrize("where", ["prompt", "engine"])
async def test_a_question_that_fails_gives_its_model_back(where: str) -> None:
    models = OneModel()
    models.gate.set()
    answers, _ = answering(models)
    if where == "prompt":
        models.error = ZeroDivisionError()
    task = asyncio.create_task(answers.answer(ASK))
    if where == "engine":
        await asyncio.to_thread(models.submitted.wait, 10)
        models.emit(Finish("error", 3, 0, 0, GenTiming(0, 0, 0), "no luck"))
    with pytest.raises(Exception, match=r"^$|no luck"):
        await task
    assert models.num_borrowed == 0
    assert not answers.cancel("a")
