"""Answers that follow a JSON schema, and schemas that are made to take long."""

import json
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from threading import Event, Thread
from typing import Any

import jsonschema

from tests import tiny
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, one_of_its_own

_NUMBER = {"type": "number", "minimum": -1, "maximum": 1, "multipleOf": 0.125}
_WORD = {"type": "string", "minLength": 1, "maxLength": 8}


def _object(*needed: str, **properties: Any) -> dict[str, Any]:
    required = list(needed or properties)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


SCHEMAS: tuple[dict[str, Any], ...] = (
    _object(name=_WORD, count={"type": "integer", "minimum": 0, "maximum": 99}),
    _object(shape={"enum": ["circle", "square", "triangle"]}, is_red={"type": "boolean"}),
    _object("a", a={"type": "null"}, b=_WORD, c={"type": "integer", "minimum": -5, "maximum": 5}),
    _object(inner=_object(inner=_object(value=_NUMBER))),
    {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 1, "maxItems": 5},
    {"type": "array", "items": _object(at=_NUMBER, what=_WORD), "minItems": 2, "maxItems": 3},
    {"type": "array", "prefixItems": [_WORD, _NUMBER], "items": False, "minItems": 2},
    {"enum": ["yes", "no", 3, None, {"a": [1, "é"]}]},
    {"const": {"é": "日本 😀"}},
    {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
    {"type": "string", "pattern": "^(à|é|ö){1,3}( [日本]+)?$", "maxLength": 9},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "uuid"},
    {"type": "integer", "minimum": -1000, "exclusiveMaximum": -7},
    {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 1000},
    {"type": "number", "multipleOf": 0.25, "minimum": 0, "exclusiveMaximum": 9},
    {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, _object(error=_WORD), {"type": "null"}]},
    {"oneOf": [_object(kind={"const": "a"}, size=_NUMBER), _object(kind={"const": "b"}, text=_WORD)]},
    {
        "$defs": {"leaf": _object(leaf={"type": "boolean"}), "pair": _object(left=_WORD, right=_WORD)},
        "type": "array",
        "items": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"$ref": "#/$defs/pair"}]},
        "maxItems": 3,
    },
    {"allOf": [_object("x", x=_NUMBER, y=_WORD), {"properties": {"x": {"minimum": 0}}}]},
)


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema, "minItems": 1}
    return schema


def _named(count: int, name: str = "k") -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {f"{name}{number}": {"type": "integer"} for number in range(count)},
    }


HOSTILE: dict[str, Any] = {
    "alternatives": {"allOf": [{"anyOf": [_named(1, f"a{i}"), _named(1, f"b{i}")]} for i in range(16)]},
    "depth": _nested(200),
    "depth that is allowed": _nested(30),
    "minItems": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
    "pattern": {"type": "string", "pattern": "^" + "(a?)" * 300 + "a" * 300 + "$"},
    "pattern of patterns": {"type": "string", "pattern": "^((a{1,100}){1,100}){1,100}$"},
    "patterns": {"type": "string", "pattern": "^(" + "|".join(f".*{a}.{{30}}" for a in "abcdefgh") + ")$"},
    "multipleOf": {"type": "integer", "multipleOf": 9_999_991},
    "properties": _named(3000),
    "itself": {"$ref": "#"},
    "length": {"type": "string", "minLength": 10**6, "maxLength": 10**9},
    "size": {"enum": ["x" * 100_000]},
}
_LONGEST_SECONDS = 30.0
_LONGEST_GAP_SECONDS = 1.0


def valid(is_full: bool) -> Figure:
    """Each schema ten times, at several temperatures, eight at once."""
    rounds = range(10 if is_full else 1)
    with one_of_its_own(is_full) as program, ThreadPoolExecutor(8) as pool:
        asked = [(schema, number) for number in rounds for schema in SCHEMAS]
        answers = list(pool.map(lambda each: _answer(program, *each, temperature=each[1] / 5), asked))
    wrong = [
        f"{schema}: {text[:80]}"
        for (schema, _), text in zip(asked, answers, strict=True)
        if not _is_valid(text, schema)
    ]
    text = (
        f"{len(asked)} requests of {len(SCHEMAS)} schemas: {len(asked) - len(wrong)} valid{wrong[:1] or ''}"
    )
    return Figure(text, is_met=not wrong)


def hostile(is_full: bool) -> Figure:
    """Each beside a stream that goes on, whose longest gap is taken."""
    with one_of_its_own(is_full) as program:
        names = HOSTILE if is_full else ("alternatives", "pattern", "depth that is allowed")
        took: dict[str, float] = {}
        refused = 0
        quiet = _longest_gap(program, lambda: time.sleep(2 if is_full else 0.5))
        gaps: dict[str, float] = {}
        for name in names:

            def ask(name: str = name) -> None:
                nonlocal refused
                begin = time.monotonic()
                refused += not _is_answered(program, HOSTILE[name])
                took[name] = time.monotonic() - begin

            gaps[name] = _longest_gap(program, ask)
    slowest, worst = max(took, key=lambda name: took[name]), max(gaps, key=lambda name: gaps[name])
    text = (
        f"{len(took)} schemas, {refused} refused, the others answered; the longest {took[slowest]:.1f} s "
        f"({slowest}); a neighbour's longest gap {gaps[worst] * 1e3:.0f} ms ({worst}), "
        f"{quiet * 1e3:.0f} without"
    )
    is_met = took[slowest] < _LONGEST_SECONDS and gaps[worst] < _LONGEST_GAP_SECONDS
    return Figure(text, is_met=is_met)


def _body(schema: dict[str, Any], **more: Any) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    message = {"role": "user", "content": "what is it"}
    return {"model": tiny.MODEL, "messages": [message], "response_format": form, "max_tokens": 400, **more}


def _answer(program: Program, schema: dict[str, Any], seed: int, temperature: float) -> str:
    """An answer's text; what was said instead where there is none."""
    with program.client() as client:
        body = _body(schema, seed=seed, temperature=min(temperature, 2.0))
        answer = client.post("/v1/chat/completions", json=body)
    if not answer.is_success:
        return answer.text
    (choice,) = answer.json()["choices"]
    return choice["message"]["content"] if choice["finish_reason"] == "stop" else choice["finish_reason"]


def _is_valid(text: str, schema: dict[str, Any]) -> bool:
    try:
        checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
        jsonschema.validate(json.loads(text), schema, jsonschema.Draft202012Validator, format_checker=checker)
    except (ValueError, jsonschema.ValidationError):
        return False
    return True


def _is_answered(program: Program, schema: dict[str, Any]) -> bool:
    """Whether there is an answer, and not a refusal; anything else is a failure."""
    with program.client() as client:
        answer = client.post("/v1/chat/completions", json=_body(schema, max_tokens=60, temperature=1, seed=1))
    assert answer.status_code in (200, 400), answer.text
    return answer.is_success


@contextmanager
def _streaming(program: Program, moments: list[float]) -> Generator[None]:
    """A neighbour's answer, which goes on all the time."""
    ended, begun = Event(), Event()

    def read() -> None:
        with program.client() as client:
            while not ended.is_set():
                body = {
                    "model": tiny.MODEL,
                    "messages": [{"role": "user", "content": "tell me"}],
                    "stream": True,
                }
                more = {"max_tokens": 1000, "ignore_eos": True, "temperature": 1}
                with client.stream("POST", "/v1/chat/completions", json=body | more) as stream:
                    for line in stream.iter_lines():
                        if line.startswith("data: {"):
                            moments.append(time.monotonic())
                            begun.set()
                        if ended.is_set():
                            return

    thread = Thread(target=read)
    thread.start()
    assert begun.wait(20), "the neighbour gets no answer"
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _longest_gap(program: Program, work: Any) -> float:
    """Seconds between two pieces of a neighbour's stream while something is done."""
    moments: list[float] = []
    with _streaming(program, moments):
        work()
    return max((after - before for before, after in pairwise(moments)), default=float("inf"))


GOALS = (
    Goal("schemas", "200 answers by 20 JSON schemas: 200 are valid", valid),
    Goal(
        "hostile schemas",
        f"12 schemas made to take long end within {_LONGEST_SECONDS:.0f} s, and no neighbour waits longer "
        f"than {_LONGEST_GAP_SECONDS:.0f} s for its next piece",
        hostile,
        is_long=True,
    ),
)
