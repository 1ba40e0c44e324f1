"""OpenAI's response object, whole and as named events; our receipt and warnings are additional keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from server.answers.question import AnswerEvent, Broken, Finished, Progress, Text
from server.bodies.responses import ResponsesBody
from server.engine.usage import Usage
from server.problems import Problem
from server.streams.one_model import additions
from server.streams.token_logprobs import logprobs_body

Event = dict[str, Any]


@dataclass(slots=True)
class ResponseShape:
    """One answer; `finished` is told of the response when it is complete."""

    number: str  # of its ids
    created: int
    answers: Sequence[Progress]
    asked: ResponsesBody
    finished: Callable[[dict[str, Any]], None]
    _texts: list[Text] = field(default_factory=list[Text])
    _num_events: int = 0

    is_done_sent = False  # these streams end with their last event

    def opening(self) -> list[Event]:
        body = self._body("in_progress", [])
        item = self._item("in_progress") | {"content": []}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        return [
            self._event("response.created", response=body),
            self._event("response.in_progress", response=body),
            self._event("response.output_item.added", output_index=0, item=item),
            self._event("response.content_part.added", **self._place, part=part),
        ]

    def chunks(self, event: AnswerEvent) -> list[Event]:
        """What is new; a response that broke ends in an event of its own."""
        match event:
            case Text():
                self._texts.append(event)
                more = {"delta": event.text, "logprobs": _logprobs([event])}
                return [self._event("response.output_text.delta", **self._place, **more)]
            case Finished():
                return self._ending(event)
            case Broken():
                return self.broken(event.problem)

    def closing(self, ends: Sequence[Finished]) -> list[Event]:  # noqa: ARG002 - the last event told of it
        return []

    def broken(self, problem: Problem) -> list[Event]:
        error = problem.body()["error"]
        body = self._body("failed", [self._item("incomplete")]) | {"error": error}
        return [self._event("response.failed", response=body)]

    def whole(self, events: Sequence[AnswerEvent]) -> dict[str, Any]:
        """Raises Problem: the answer broke."""
        for event in events:
            if isinstance(event, Broken):
                raise event.problem
        self._texts = [event for event in events if isinstance(event, Text)]
        (end,) = (event for event in events if isinstance(event, Finished))
        return self._finish(end)

    def _ending(self, end: Finished) -> list[Event]:
        response = self._finish(end)
        (item,) = response["output"]
        (part,) = item["content"]
        text = {"text": part["text"], "logprobs": part["logprobs"]}
        return [
            self._event("response.output_text.done", **self._place, **text),
            self._event("response.content_part.done", **self._place, part=part),
            self._event("response.output_item.done", output_index=0, item=item),
            self._event(f"response.{response['status']}", response=response),
        ]

    def _finish(self, end: Finished) -> dict[str, Any]:
        is_whole = end.reason == "stop"
        status = "completed" if is_whole else "incomplete"
        body = self._body(status, [self._item(status)]) | {
            "incomplete_details": None if is_whole else {"reason": "max_output_tokens"},
            "usage": _usage(end.usage),
            **additions(end),
        }
        self.finished(body)
        return body

    def _item(self, status: str) -> dict[str, Any]:
        text = "".join(event.text for event in self._texts)
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": _logprobs(self._texts)}
        head = {"id": self._item_id, "type": "message", "role": "assistant", "status": status}
        return head | {"content": [part]}

    def _body(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        asked = self.asked
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self.answers[0].model,
            "output": output,
            "parallel_tool_calls": False,
            "previous_response_id": asked.previous_response_id,
            "store": asked.is_kept,
            "temperature": asked.temperature,
            "text": {"format": asked.text_format()},
            "tool_choice": "none",
            "tools": [],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    @property
    def _item_id(self) -> str:
        return f"msg_{self.number}"

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item_id, "output_index": 0, "content_index": 0}

    def _event(self, kind: str, **fields: Any) -> Event:
        self._num_events += 1
        return {"type": kind, "sequence_number": self._num_events - 1, **fields}


def _logprobs(texts: Sequence[Text]) -> list[dict[str, Any]]:
    found = logprobs_body(texts)
    return found["content"] if found else []


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": 0,
            "video_tokens": usage.video,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.total,
    }
