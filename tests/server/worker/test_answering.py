"""Questions that end while they are being handed to their model."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from server.engine.wire import Ask, Message
from server.worker.answering import Answers
from server.worker.models import Lease, Models


class OneModel:
    """A stand-in of `Models` with one loaded model; `on_request` is called while the prompt is made."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.on_request: Callable[[], None] = lambda: None
        self.num_borrowed = 0
        engine = SimpleNamespace(
            submit=lambda *_: self.calls.append("submit"), cancel=lambda _: self.calls.append("cancel")
        )
        chat = SimpleNamespace(request=self._request, text_stream=lambda _: None)
        self._model = cast(Any, SimpleNamespace(name="m", chat=chat, engine=engine))

    def borrow(self, names: list[str], then: Callable[[Lease], None], is_wanted: Callable[[], bool]) -> None:
        self.num_borrowed += 1
        then(Lease({"m": self._model}))

    def give_back(self, models: list[object]) -> None:
        self.num_borrowed -= len(models)

    def _request(self, *_: object, **__: object) -> object:
        self.on_request()
        return SimpleNamespace(num_video_tokens=0)


def ask(models: OneModel, on_request: Callable[[Answers], None]) -> list[Message]:
    sent = list[Message]()
    answers = Answers(cast("Models", models), lambda _: cast(Any, None), sent.append)
    models.on_request = lambda: on_request(answers)
    answers.ask(Ask("a", "m", b"", [["user", "hello"]], {}, 10.0))
    return sent


def test_a_cancel_that_comes_before_the_engine_knows_the_question_still_ends_it() -> None:
    models = OneModel()
    ask(models, lambda answers: answers.cancel("a"))
    assert models.calls == ["cancel", "submit", "cancel"]


def test_a_question_that_cannot_be_asked_gives_its_model_back() -> None:
    def fail(_: Answers) -> None:
        raise ZeroDivisionError

    models = OneModel()
    (failed,) = ask(models, fail)
    assert (getattr(failed, "id", None), getattr(failed, "code", None)) == ("a", "engine_error")
    assert models.num_borrowed == 0
