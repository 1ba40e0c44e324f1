"""What an answer must say, whole or as a stream."""

import json
from dataclasses import dataclass
from typing import Any

from tests.simulation.engine import answer_text, tokens_text

_END = "[DONE]"


@dataclass(frozen=True, slots=True)
class Expected:
    """Of each choice: its model; of all: the video's frames, the question, and the video's name."""

    models: tuple[str, ...]
    frames: str | None
    question: str
    video: str | None

    def text(self, index: int) -> str:
        model = self.models[index]
        tokens = "-" if self.frames is None else tokens_text(model, self.frames)
        return answer_text(model, tokens, self.question)


def check_whole(body: dict[str, Any], expected: Expected) -> list[str]:
    """What is wrong with a whole answer."""
    faults: list[str] = []
    indices = [choice["index"] for choice in body["choices"]]
    if indices != list(range(len(expected.models))):
        faults.append(f"choices {indices}")
    for choice in body["choices"]:
        text, reason = choice["message"]["content"], choice["finish_reason"]
        faults += _check_choice(choice["index"], text, reason, expected)
    receipt = body.get("receipt")
    if receipt is not None:
        faults += _check_receipt(receipt, expected.models[0], expected)
    return faults


def _check_choice(index: int, text: str, reason: str, expected: Expected) -> list[str]:
    wanted = expected.text(index)
    if reason == "error":
        return [] if wanted.startswith(text) else [f"choice {index} broke after {text!r}, not of {wanted!r}"]
    faults = [] if text == wanted else [f"choice {index} is {text!r}, not {wanted!r}"]
    return faults if reason == "stop" else [*faults, f"choice {index} ended with {reason}"]


def _check_receipt(receipt: dict[str, Any], model: str, expected: Expected) -> list[str]:
    got = receipt["video"], receipt["model"]
    return [] if got == (expected.video, model) else [f"a receipt of {got}, not {(expected.video, model)}"]


def check_stream(events: list[str], expected: Expected) -> tuple[list[str], list[dict[str, Any]]]:
    """What is wrong with a stream, and the problems that it tells of."""
    told = _Told(expected)
    if events[-1:] != [_END] or events.count(_END) != 1:
        told.faults.append(f"{events.count(_END)} ends, the last event is {events[-1:]}")
    for event in events:
        if event != _END:
            told.hear(json.loads(event))
    told.end()
    return told.faults, told.problems


class _Told:
    """What a stream has said so far."""

    def __init__(self, expected: Expected) -> None:
        self.faults: list[str] = []
        self.problems: list[dict[str, Any]] = []
        self._expected = expected
        self._said = dict.fromkeys(range(len(expected.models)), "")
        self._ended: dict[int, str] = {}
        self._is_broken = False

    def hear(self, body: dict[str, Any]) -> None:
        if self._is_broken:
            self.faults.append("an event after the error that ends the stream")
        if "choices" not in body:
            self._is_broken = True
            self.problems.append(body["error"])
            return
        for choice in body["choices"]:
            self._hear_choice(choice, body)

    def _hear_choice(self, choice: dict[str, Any], body: dict[str, Any]) -> None:
        index, reason = choice["index"], choice["finish_reason"]
        if index in self._ended:
            self.faults.append(f"an event of choice {index} after its end")
        self._said[index] += choice["delta"].get("content", "")
        if reason is None:
            return
        self._ended[index] = reason
        if "error" in choice:
            self.problems.append(choice["error"])
        else:
            receipt = choice.get("receipt") or body["receipt"]
            self.faults += _check_receipt(receipt, self._expected.models[index], self._expected)

    def end(self) -> None:
        for index, said in self._said.items():
            if index in self._ended:
                self.faults += _check_choice(index, said, self._ended[index], self._expected)
            elif not self._is_broken:
                self.faults.append(f"choice {index} has no end")
            elif not self._expected.text(index).startswith(said):
                self.faults.append(f"choice {index} broke after {said!r}")
