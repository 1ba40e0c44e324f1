"""Faults of the engine process: no memory for a request, a context that is lost, a process that is killed."""

import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests import fakes
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, served, until
from tests.soak.secrets import SECRET

_AT_ONCE, _NUM_STREAMS = 8, 8
_NOT_READY_SECONDS, _TOLD_SECONDS, _READY_SECONDS = 1.0, 2.0, 15.0
_ERRORS = {"engine_error", "engine_restarted"}
_LONG_TEXT = "what moves in this video? " * 40  # more tokens than fit, once the fault is there


def memory(is_full: bool) -> Figure:
    """Requests that never fit into memory, among others that do."""
    count = 100 if is_full else 6
    with tempfile.TemporaryDirectory() as name:
        fault = Path(name) / "fault"
        with served("--max-requests-per-key", "1000", fault=fault) as program:
            alone = [_said(program, _short(number)) for number in range(_AT_ONCE)]
            fault.write_text("long", encoding="ascii")
            with ThreadPoolExecutor(2 * _AT_ONCE) as pool:
                good = [pool.submit(_said, program, _short(number % _AT_ONCE)) for number in range(5 * count)]
                bad = [pool.submit(_said, program, _long(number)) for number in range(count)]
                texts, refused = [each.result() for each in good], [each.result() for each in bad]
            restarts = program.metric("btchat_engine_restarts")
    same = sum(text == alone[number % _AT_ONCE] for number, text in enumerate(texts))
    failed = sum(text.startswith("503") and SECRET not in text for text in refused)
    text = f"{failed} of {count} refused, {same} of {len(texts)} others unchanged, {restarts:.0f} restarts"
    return Figure(text, is_met=failed == count and same == len(texts) and not restarts)


def kills(is_full: bool) -> Figure:
    """The engine process is killed under streams."""
    return _faults(20 if is_full else 1, _killed, is_fake=not is_full)


def poison(is_full: bool) -> Figure:
    """The accelerator's context is lost under streams, for good: only another process can answer."""
    return _faults(20 if is_full else 1, _poisoned, is_fake=False)


def _faults(count: int, break_: Any, *, is_fake: bool) -> Figure:
    """Two for each server: the third within ten minutes would end it."""
    times: list[tuple[float, float, float]] = []
    ends: list[str] = []
    while len(times) < count:
        with tempfile.TemporaryDirectory() as name:
            fault = Path(name) / "fault"
            with served(
                "--max-requests-per-key", "1000", fault=None if is_fake else fault, is_fake=is_fake
            ) as program:
                for _ in range(min(2, count - len(times))):
                    seconds, ended = _break(program, fault, break_)
                    times.append(seconds)
                    ends += ended
    unready, told, ready = (max(each) for each in zip(*times, strict=True))
    text = (
        f"{count} faults: not ready after {unready:.2f} s, {_NUM_STREAMS} streams told after {told:.2f} s, "
        f"ready again after {ready:.1f} s at most; ends {dict(Counter(ends))}"
    )
    is_prompt = unready <= _NOT_READY_SECONDS and told <= _TOLD_SECONDS and ready <= _READY_SECONDS
    return Figure(text, is_met=is_prompt and set(ends) <= _ERRORS)


def _break(program: Program, fault: Path, break_: Any) -> tuple[tuple[float, float, float], list[str]]:
    """Seconds until the server is not ready, until the last stream ended, until it is ready; the ends."""
    with ThreadPoolExecutor(_NUM_STREAMS) as pool:
        streams = [pool.submit(_end_of_stream, program) for _ in range(_NUM_STREAMS)]
        assert until(lambda: program.metric("btchat_num_requests_in_flight") == _NUM_STREAMS) < float("inf")
        time.sleep(0.3)
        begin = time.monotonic()
        break_(program, fault)
        unready = until(lambda: not _is_ready(program))
        ends = [each.result() for each in streams]
        told = max(end for _, end in ends) - begin
        fault.unlink(missing_ok=True)
        ready = until(lambda: _is_ready(program), 60)
    assert _said(program, _short(1)).startswith("200"), "no answer after the restart"
    return (unready, told, ready), [code for code, _ in ends]


def _killed(program: Program, fault: Path) -> None:
    del fault
    os.kill(program.engine, signal.SIGKILL)


def _poisoned(program: Program, fault: Path) -> None:
    del program
    fault.write_text("accelerator", encoding="ascii")


def _is_ready(program: Program) -> bool:
    with program.client() as client:
        return client.get("/health/ready").is_success


def _short(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"what is number {number}?"}], "max_tokens": 12}


def _long(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"{number} {_LONG_TEXT}"}], "max_tokens": 12}


def _said(program: Program, body: dict[str, Any]) -> str:
    """The status and the greedy answer, or the error."""
    with program.client() as client:
        answer = client.post(
            "/v1/chat/completions", json={"model": _model(program), "temperature": 0, **body}
        )
    if not answer.is_success:
        return f"{answer.status_code} {answer.text}"
    return f"200 {answer.json()['choices'][0]['message']['content']}"


def _model(program: Program) -> str:
    with program.client() as client:
        return client.get("/v1/models").json()["data"][0]["id"]


def _end_of_stream(program: Program) -> tuple[str, float]:
    """The code of the error that ends a long stream, then [DONE]; and when that was."""
    text = "!slow" if _model(program) == fakes.MODEL else "what moves?"
    said = [{"role": "user", "content": text}]
    body = {
        "model": _model(program),
        "messages": said,
        "stream": True,
        "max_tokens": 1900,
        "ignore_eos": True,
    }
    with program.client() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    return _code(lines), time.monotonic()


def _code(lines: Sequence[str]) -> str:
    if lines[-1:] != ["data: [DONE]"]:
        return "no end"
    return json.loads(lines[-2].removeprefix("data: ")).get("error", {}).get("code", "finished")


GOALS = (
    Goal(
        "G10",
        "100 requests that never fit into memory fail; all others answer as they do alone",
        memory,
        is_long=True,
    ),
    Goal(
        "G11",
        "20 kills of the engine: not ready <= 1 s, every stream told <= 2 s, ready again <= 15 s, 0 hung",
        kills,
    ),
    Goal(
        "G11 poison",
        "20 lost contexts of the accelerator: the same, 0 answers from the one that is lost",
        poison,
    ),
)
