"""What a stream says when its answer breaks, and that no stream ends in silence."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai

from tests import fakes
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, served

_AT_ONCE, _MOST_TOKENS, _ERRORS_IN = 16, 60, 4


def breaks(is_full: bool) -> Figure:
    """Answers break after a random word; every fourth question is one that does not."""
    count = 1000 if is_full else 40
    with served("--max-requests-per-key", "1000", is_fake=True) as program, program.client() as client:
        draw = random.Random(0)
        after = [draw.randrange(1, _MOST_TOKENS) for _ in range(count)]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            ends = list(pool.map(lambda k: _end_of(client, f"!fail after {k}"), after))
            good = list(pool.map(lambda k: _end_of(client, "word " * k), after[::_ERRORS_IN]))
            heard = list(
                pool.map(lambda k: _heard_by_openai(program, f"!fail after {k}"), after[::_ERRORS_IN])
            )
    wrong = [end for end in ends if end != ["error", "done"]]
    wrong += [end for end in good if end != ["finish", "done"]]
    raised = heard.count("engine_error")
    text = (
        f"{len(ends)} broken and {len(good)} whole streams, {len(wrong)} with another end; "
        f"openai's client raised {raised} of {len(heard)}"
    )
    return Figure(text, is_met=not wrong and raised == len(heard))


def _end_of(client: httpx.Client, text: str) -> list[str]:
    """What of a stream ends it, in order."""
    body = {"model": fakes.MODEL, "messages": [{"role": "user", "content": text}], "stream": True}
    ends: list[str] = []
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        for line in answer.iter_lines():
            if line == "data: [DONE]":
                ends.append("done")
            elif line.startswith("data: "):
                ends += _of(json.loads(line.removeprefix("data: ")))
            elif ends and line:
                ends.append(line)
    return ends


def _of(chunk: dict[str, Any]) -> list[str]:
    if "error" in chunk:
        return ["error"]
    return ["finish" for choice in chunk["choices"] if choice["finish_reason"]]


def _heard_by_openai(program: Program, text: str) -> str | None:
    """The code of what the client raises."""
    with openai.OpenAI(base_url=f"{program.url}/v1", api_key="none", max_retries=0) as client:
        try:
            stream = client.chat.completions.create(
                model=fakes.MODEL, messages=[{"role": "user", "content": text}], stream=True
            )
            for _ in stream:
                pass
        except openai.APIError as error:
            return error.code
    return None


GOALS = (
    Goal(
        "G35",
        "1,000 answers that break at a random token: exactly one error event, then [DONE]; whole ones end in "
        "finish_reason and [DONE]; openai's client reads both",
        breaks,
    ),
)
