"""What was acknowledged before a server ended is there after it, and is answered as before."""

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, served

_KILL_EVERY = 2


def restarts(is_full: bool) -> Figure:
    """Every second server is killed, the others stopped; each gets a new video, and is asked about all."""
    if not is_full:
        return _restarts(2, is_fake=True)
    one, other = _restarts(100, is_fake=False), _damaged_tokens()
    return Figure(f"{one.text}; {other.text}", is_met=one.is_met and other.is_met)


def _damaged_tokens() -> Figure:
    """Bytes of stored tokens change while no server runs: they are made again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with served(folder=folder) as program:
            video = program.upload()
            before = _answer(program, video)
            program.end()
        stored = [path for path in (folder / "data" / "tokens").rglob("*") if path.is_file()]
        for path in stored:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        with served(folder=folder) as program:
            after = _answer(program, video)
            num_used = program.metric("btchat_token_store_hits_total")
    is_same = bool(stored) and after == before
    said = "the same" if is_same else "another"
    text = f"of {len(stored)} damaged files of tokens {num_used:.0f} used, {said} answer"
    return Figure(text, is_met=is_same and not num_used)


def _restarts(count: int, *, is_fake: bool) -> Figure:
    answers: dict[str, str] = {}
    changed = 0
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            with served(folder=Path(name), is_fake=is_fake) as program:
                changed += sum(_answer(program, video) != text for video, text in answers.items())
                video = program.upload(program.clip + b"\0\0\0\x10free" + number.to_bytes(8, "big"))
                answers[video] = _answer(program, video)
                if number % _KILL_EVERY:
                    os.kill(program.process.pid, signal.SIGKILL)
                else:
                    changed += program.end() != 0
    asked = count * (count - 1) // 2
    return Figure(
        f"{count} restarts, {asked} answers about earlier videos, {changed} others", is_met=not changed
    )


def _answer(program: Program, video: str) -> str:
    body: dict[str, Any] = {"video": video, "messages": [{"role": "user", "content": "what moves?"}]}
    with program.client() as client:
        answer = client.post("/v1/video/chat", json=body | {"temperature": 0, "max_tokens": 12})
    return answer.json()["choices"][0]["message"]["content"] if answer.is_success else answer.text


GOALS = (
    Goal(
        "G36",
        "100 restarts, half of them kills: acknowledged videos answer as before; damaged tokens are not used",
        restarts,
    ),
)
