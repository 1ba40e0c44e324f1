"""Answers, whole or from the lines of an event stream."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError

from btchat.client.errors import BtchatAPIError, BtchatConnectionError, BtchatResponseError
from btchat.client.objects import ServerObject, TokenUsage
from btchat.client.receipts import Receipt


class AnswerNote(ServerObject):
    """A warning about an answer, such as `no_video`."""

    code: str
    message: str


class TopToken(ServerObject):
    """A token that could have stood at a place."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class SaidToken(TopToken):
    """A token of an answer, and the likeliest ones at its place."""

    top_logprobs: tuple[TopToken, ...] = ()


class ChoiceError(ServerObject):
    """Why one of several models did not answer."""

    message: str
    type: str | None = None
    param: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """One model's answer; `finish_reason` is stop, length or error, and only then there is an `error`."""

    text: str
    model: str
    finish_reason: str | None = None
    receipt: Receipt | None = None
    usage: TokenUsage | None = None
    warnings: tuple[AnswerNote, ...] = ()
    logprobs: tuple[SaidToken, ...] = ()
    error: ChoiceError | None = None
    index: int = 0
    id: str = ""
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class ChatChoices:
    """The answers of several models, in the order in which they were named."""

    answers: tuple[ChatAnswer, ...]
    usage: TokenUsage | None = None

    def __len__(self) -> int:
        return len(self.answers)

    def __iter__(self) -> Iterator[ChatAnswer]:
        return iter(self.answers)

    def __getitem__(self, which: int | str) -> ChatAnswer:
        """By number, or by the name of the model. Raises KeyError, IndexError."""
        if isinstance(which, int):
            return self.answers[which]
        found = {answer.model: answer for answer in self.answers}
        return found[which]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """Some text of the answer number `index`."""

    index: int
    model: str
    text: str


@dataclass(frozen=True, slots=True)
class _Choice:
    """One answer while it comes."""

    texts: list[str] = field(default_factory=list[str])
    tokens: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    last: dict[str, Any] = field(default_factory=dict[str, Any])


class AnswerReader:
    """Puts answers together, from one whole body or from the events of a stream.

    `stage` is what the server said last of its progress, before the first text.
    """

    def __init__(self, request_id: str | None = None) -> None:
        self.stage = ""
        self.is_done = False
        self._request_id = request_id
        self._choices: dict[int, _Choice] = {}
        self._head: dict[str, Any] = {}

    def whole(self, body: Mapping[str, Any]) -> None:
        """Take a body that is no stream."""
        self._take(body, "message")
        self.is_done = True

    def feed(self, line: str) -> list[TextDelta]:
        """The text of one line of a stream.

        Raises:
            BtchatAPIError: the answer broke.
            BtchatResponseError: it is no event of a btchat server.
        """
        if line.startswith(":"):
            self.stage = line[1:].strip()
        name, _, data = line.partition(":")
        if name != "data":
            return []
        if data.strip() == "[DONE]":
            self.is_done = True
            return []
        try:
            chunk = json.loads(data)
            if "error" in chunk:
                raise self._broken(chunk["error"])
            return self._take(chunk, "delta")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BtchatResponseError(f"an event of the stream cannot be read: {data[:80]!r}") from error

    def require_done(self) -> None:
        """Raises BtchatConnectionError: the stream ended before its end."""
        if not self.is_done:
            count = sum(len(text) for choice in self._choices.values() for text in choice.texts)
            raise BtchatConnectionError(f"the answer broke off after {count} characters; ask again")

    @property
    def text(self) -> str:
        """All text of the first answer so far."""
        return "".join(self._choices[0].texts) if 0 in self._choices else ""

    def choices(self) -> ChatChoices:
        """All answers so far.

        Raises:
            BtchatResponseError: they cannot be read.
        """
        try:
            answers = tuple(self._answer(index, of) for index, of in sorted(self._choices.items()))
            return ChatChoices(answers, _usage(self._head))
        except ValidationError as error:
            raise BtchatResponseError(f"the answer cannot be read: {error.errors()[0]['msg']}") from error

    def _take(self, body: Mapping[str, Any], key: str) -> list[TextDelta]:
        self._head |= _given(body)
        deltas: list[TextDelta] = []
        for each in cast(list[dict[str, Any]], body["choices"]):
            choice = self._choices.setdefault(each["index"], _Choice())
            # of several models a choice, or its chunk, says whose it is
            choice.last.update({"model": body.get("model", "")} | _given(each))
            choice.tokens.extend((each.get("logprobs") or {}).get("content") or [])
            if text := (each.get(key) or {}).get("content"):
                choice.texts.append(text)
                deltas.append(TextDelta(each["index"], str(choice.last["model"]), text))
        return deltas

    def _answer(self, index: int, choice: _Choice) -> ChatAnswer:
        facts = self._head | choice.last
        error, receipt = choice.last.get("error"), facts.get("receipt")
        return ChatAnswer(
            text="".join(choice.texts),
            model=str(choice.last["model"]),
            finish_reason=choice.last.get("finish_reason"),
            receipt=None if receipt is None else Receipt.model_validate(receipt),
            usage=_usage(facts if error is None else choice.last),
            warnings=tuple(AnswerNote.model_validate(each) for each in facts.get("warnings", ())),
            logprobs=tuple(SaidToken.model_validate(each) for each in choice.tokens),
            error=None if error is None else ChoiceError.model_validate(error),
            index=index,
            id=str(self._head.get("id", "")),
            request_id=self._request_id,
        )

    def _broken(self, error: Mapping[str, Any]) -> BtchatAPIError:
        return BtchatAPIError(
            str(error.get("message")),
            status=200,
            code=error.get("code"),
            param=error.get("param"),
            request_id=self._request_id,
        )


def _given(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if value is not None}


def _usage(facts: Mapping[str, Any]) -> TokenUsage | None:
    usage = facts.get("usage")
    return None if usage is None else TokenUsage.model_validate(usage)
