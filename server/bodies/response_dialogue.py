"""A request for a response -> the chat completion that answers it, and back to the request's own fields."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bt_model.errors import InvalidValueError
from server.bodies.openai import CompletionBody
from server.bodies.refusals import of_validation
from server.bodies.responses import LOGPROBS, InputItem, Message, ResponsesBody
from server.problems import Problem

_PLACE = re.compile(r"messages\[(\d+)\](?:\.content\[(\d+)\](?:\.\w+(?:\.\w+)?)?)?")
_FORMAT = re.compile(r"response_format(?:\.json_schema)?")
_SAME = (
    *("model", "stream", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty"),
    *("frequency_penalty", "ignore_eos", "seed", "stop", "min_tokens", "logit_bias", "top_logprobs"),
    *("tools", "tool_choice", "video"),
)

Refer = Callable[[str], Message]
"""The message of an earlier response by its id; raises InvalidValueError where it is not known."""


@dataclass(frozen=True, slots=True)
class AskedResponse:
    """What is asked; `dialogue` is what a later response may go on from."""

    body: ResponsesBody
    dialogue: tuple[Message, ...]
    places: tuple[tuple[int, InputItem], ...]  # of the dialogue's last messages in the input, if they are

    @classmethod
    def read(cls, body: ResponsesBody, earlier: Sequence[Message], refer: Refer) -> "AskedResponse":
        """Raises InvalidValueError: an item that cannot be used."""
        places = [(number, item) for number, item in enumerate(body.input) if item.type != "reasoning"]
        said = [_message(item, f"input[{number}]", refer) for number, item in places]
        return cls(body, (*earlier, *said), tuple(places))

    def completion(self) -> CompletionBody:
        """The same as a chat completion.

        Raises:
            Problem: what a chat completion does not take, in the words of this route.
        """
        body = self.body
        if not self.dialogue:
            text = "input has no message; allowed: one of the user's at least"
            raise InvalidValueError(text, code="missing_required_parameter", param="input")
        system = [{"role": "system", "content": body.instructions}] if body.instructions else []
        given = {name: getattr(body, name) for name in _SAME if getattr(body, name) is not None}
        asks_logprobs = LOGPROBS in (body.include or ()) or bool(body.top_logprobs) or body.logprobs
        values = {
            **given,
            "messages": [*system, *self.dialogue],
            "max_tokens": body.max_tokens if body.max_output_tokens is None else body.max_output_tokens,
            "logprobs": asks_logprobs or None,
            "response_format": body.completion_format(),
            "sampling": body.sampling and body.sampling.model_dump(exclude_unset=True),
        }
        try:
            return CompletionBody.model_validate({name: each for name, each in values.items() if each != []})
        except ValidationError as error:
            found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
            raise self.in_own_words(of_validation(found)) from error

    def answered(self, response: Mapping[str, Any]) -> tuple[Message, ...]:
        """The dialogue with what was answered to it."""
        (item,) = response["output"]
        return (*self.dialogue, {"role": "assistant", "content": item["content"][0]["text"]})

    def in_own_words(self, problem: Problem) -> Problem:
        """A chat completion's problem, with the fields that this route's client knows."""
        problem.detail = self._renamed(problem.detail)
        problem.param = problem.param and self._renamed(problem.param)
        return problem

    def _renamed(self, text: str) -> str:
        return _FORMAT.sub("text.format", _PLACE.sub(self._place, text))

    def _place(self, found: re.Match[str]) -> str:
        number = int(found[1]) - bool(self.body.instructions) - (len(self.dialogue) - len(self.places))
        if number < 0:
            return "previous_response_id" if self.body.previous_response_id else "instructions"
        place, item = self.places[number]
        if found[2] is None or item.content is None or int(found[2]) >= len(item.content):
            return f"input[{place}]"
        return f"input[{place}].content[{found[2]}].{item.content[int(found[2])].field()}"


def _message(item: InputItem, where: str, refer: Refer) -> Message:
    if item.type == "item_reference":
        if item.id is None:
            text = f"{where} is an item_reference and lacks the field id"
            raise InvalidValueError(text, code="missing_required_parameter", param=f"{where}.id")
        return refer(item.id)
    if item.role is None or item.content is None:
        name = "role" if item.role is None else "content"
        text = f"{where} is a message and lacks the field {name}"
        raise InvalidValueError(text, code="missing_required_parameter", param=f"{where}.{name}")
    parts = [part.message_part(f"{where}.content[{n}]") for n, part in enumerate(item.content)]
    return {"role": item.role, "content": parts}
