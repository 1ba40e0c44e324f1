"""Live sessions: an hour of one, and many at once."""

import asyncio
import json
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from websockets.asyncio.client import ClientConnection, connect

from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.types import FrameSize, Sampling
from bt_model.video import picture_list
from bt_model.video.sample import choose_frames
from server.engine import wire
from server.live import PATH
from server.live.picture_file import picture_file
from server.uploads.data_url import Base64Text
from tests import tiny
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, quantile, rss_bytes, served
from tests.server.live.client import LiveClient, live, picture_data
from tests.server.worker.processes import EngineProcess, started
from tests.server.worker.test_worker import fetched

_A_SECOND, _KEPT, _ASKED = 4, 50, 8
_HOUR = 3600 * _A_SECOND
_MB = 1e6
_OPTIONS: dict[str, Any] = {"temperature": 1.5, "seed": 7, "max_tokens": 24}
_PICTURES = 97
_FEW_PAGES = str(4 << 20)  # bytes of keys and values, all of which are used before the memory is measured
_SIZE = FrameSize(tiny.SIDE, "crop")


def hour(is_full: bool) -> Figure:
    """One client, which sends each frame when the one before is kept; the clock is the frames' own."""
    count, num_times, num_warm = (_HOUR, 20, 80) if is_full else (60, 3, 2)
    draw, total = random.Random(0), num_warm + count
    pictures = draw.choices(_pictures(), k=total)
    times = {*range(num_warm), *draw.sample(range(num_warm, total), num_times)}
    window: deque[int] = deque(maxlen=_KEPT)
    same: list[bool] = []
    with served("--kv-bytes", _FEW_PAGES) as program, live(program.url) as client:
        client.begin(num_frames=_ASKED, max_frames=_KEPT, frame_acks=True, **_OPTIONS)
        before, rss = program.metric("btchat_tower_encodes_total"), (0.0, 0.0)
        for number in range(total):
            if number == num_warm:  # every page of the cache has been used
                rss = _memory(program)
            assert client.show(pictures[number], timestamp=number / _A_SECOND) == "kept"
            window.append(number)
            if number in times:
                same.append(_is_same(program, client, window, pictures))
        grown = [(now - then) / _MB for now, then in zip(_memory(program), rss, strict=True)]
        passes = program.metric("btchat_tower_encodes_total") - before - len(same)
    text = (
        f"{total} frames, {passes:.0f} trunk passes; {sum(same)} of {len(same)} answers those of the list, "
        f"{num_warm} of them at the beginning; after these web {grown[0]:+.2f} MB, engine {grown[1]:+.2f} MB"
    )
    is_flat = max(grown) <= 1 or not is_full
    return Figure(text, is_met=all(same) and passes == total and is_flat)


def tokens(is_full: bool) -> Figure:
    """The same without the WebSocket: frames decoded one by one, and the windows' tokens bit by bit."""
    count, num_times = (_HOUR, 20) if is_full else (60, 3)
    draw = random.Random(1)
    pictures = draw.choices([Base64Text().feed(each) for each in _pictures()], k=count)
    times = set(draw.sample(range(count), num_times))
    window: deque[int] = deque(maxlen=_KEPT)
    same: list[bool] = []
    with tempfile.TemporaryDirectory() as name, DecodePool(1) as pool:
        folder = Path(name)
        tiny.write_model_folder(folder)
        with started(folder, tiny.MODEL, "--live-window-bytes", str(1 << 20)) as engine:
            engine.expect(wire.Ready)
            engine.connection.send(wire.LiveOpen("o", "s", tiny.MODEL, _KEPT))
            engine.expect(wire.Opened)
            for number in range(count):
                _see(pool, engine, number, pictures[number])
                window.append(number)
                if number in times:
                    same.append(_has_same_tokens(pool, engine, window, pictures, folder / "list"))
            passes = engine.stats().values["tower_encodes_total"] - num_times
    text = f"{count} frames, {passes:.0f} trunk passes; tokens of {sum(same)} of {len(same)} equal"
    return Figure(text, is_met=all(same) and passes == count)


@dataclass(frozen=True, slots=True)
class _Told:
    """What one of many sessions was told: counts of frames, and the seconds to each answer."""

    frames: dict[str, int]
    seconds: tuple[float, ...]


def many(is_full: bool) -> Figure:
    """Sessions whose cameras all send four frames a second, and who ask every few seconds."""
    count, seconds = (50, 60.0) if is_full else (12, 3.0)
    with served("--decode-workers", "2") as program:
        told = asyncio.run(_all_talk(program, count, seconds))
    kept = [each.frames["kept"] for each in told]
    sent = sum(each.frames["received"] for each in told)
    late = sum(each.frames["dropped"] for each in told)
    waits = [each for one in told for each in one.seconds]
    is_counted = sent == sum(kept) + late
    text = (
        f"{count} sessions, {sent} frames in {seconds:.0f} s: {sum(kept)} kept, {late} late"
        f"{'' if is_counted else ', others lost'}; {min(kept)} to {max(kept)} of a session; "
        f"{len(waits)} questions answered within {quantile(waits, 0.99):.1f} s at p99"
    )
    is_fair = min(kept) >= median(kept) / 2 > 0
    return Figure(text, is_met=is_counted and is_fair and all(each.seconds for each in told))


def _pictures() -> list[str]:
    return [picture_data(number) for number in range(_PICTURES)]


def _memory(program: Program) -> tuple[float, float]:
    return float(rss_bytes(program.process.pid)), float(rss_bytes(program.engine))


def _is_same(program: Program, client: LiveClient, window: Sequence[int], pictures: Sequence[str]) -> bool:
    """Whether an answer, and the frames that it is about, are those of the window sent as a list."""
    question = f"what moves at {window[-1]}?"
    answer = client.ask(question)
    url = "data:video/jpeg;base64," + ",".join(pictures[number] for number in window)
    body = {"video": url, "question": question, "sampling": {"num_frames": _ASKED}, **_OPTIONS}
    with program.client() as http:
        listed = http.post("/v1/video/chat", json=body).json()
    indices = [window[index] for index in listed["receipt"]["frames"]["indices"]]
    said = listed["choices"][0]["message"]["content"]
    return (answer["text"], answer["receipt"]["frames"]["indices"]) == (said, indices)


def _see(pool: DecodePool, engine: EngineProcess, number: int, picture: bytes) -> None:
    with picture_file(picture) as path:
        frame = pool.decode(path, Sampling(num_frames=1), [_SIZE], 1).result()
    with frame:
        message = wire.LiveFrame("f", "s", number, tiny.SIDE, tiny.SIDE)
        engine.connection.send(message, (frame.memories[_SIZE],))
    assert not engine.expect(wire.Encoded).failures


def _has_same_tokens(
    pool: DecodePool, engine: EngineProcess, window: Sequence[int], pictures: Sequence[bytes], file: Path
) -> bool:
    choice = choose_frames(len(window), Sampling(num_frames=_ASKED), 1.0, _ASKED)
    numbers = [window[index] for index in choice.indices]
    engine.connection.send(wire.LiveEncode("e", "s", numbers, b"live", {}))
    engine.expect(wire.Encoded)
    content = [picture_list.head(1.0)]
    for number in window:
        writer = picture_list.PictureWriter()
        content += [writer.feed(pictures[number]), writer.end()]
    file.write_bytes(b"".join(content))
    with pool.decode(file, Sampling(num_frames=_ASKED), [_SIZE], 1).result() as clip:
        engine.encode("c", b"clip", _pixels(clip), {})
    engine.expect(wire.Encoded)
    return torch.equal(fetched(engine, b"live")[1], fetched(engine, b"clip")[1])


def _pixels(clip: Decoded) -> Any:
    memory = os.dup(clip.memories[_SIZE])
    with os.fdopen(memory, "rb") as file:
        file.seek(0)
        data = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8)
    return data.reshape(-1, tiny.SIDE, tiny.SIDE, 3).numpy()


async def _all_talk(program: Program, count: int, seconds: float) -> list[_Told]:
    pictures = _pictures()
    return await asyncio.gather(*(_talk(program, pictures, number, seconds) for number in range(count)))


async def _talk(program: Program, pictures: Sequence[str], number: int, seconds: float) -> _Told:
    """One camera, beside which somebody asks, again when he has his answer and has thought about it."""
    draw = random.Random(number)
    async with connect(program.url.replace("http", "ws", 1) + PATH, proxy=None) as socket:
        await _send(socket, "session.config", num_frames=_ASKED, max_frames=_KEPT, max_tokens=8)
        await socket.recv()
        camera = asyncio.create_task(_film(socket, pictures, number, seconds))
        waits: list[float] = []
        while not camera.done():
            await asyncio.sleep(draw.uniform(1, 2))
            begin = time.monotonic()
            await _send(socket, "video.query", text=f"what moves, {len(waits)}?")
            await _heard(socket, "response.text.done")
            waits.append(time.monotonic() - begin)
        await camera
        await _send(socket, "video.done")
        return _Told((await _heard(socket, "session.done"))["frames"], tuple(waits))


async def _film(socket: ClientConnection, pictures: Sequence[str], first: int, seconds: float) -> None:
    begin = time.monotonic()
    for number in range(round(seconds * _A_SECOND)):
        await _send(socket, "video.frame", data=pictures[(first + number) % _PICTURES])
        await asyncio.sleep(max(begin + (number + 1) / _A_SECOND - time.monotonic(), 0))


async def _send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": kind, **fields}))


async def _heard(socket: ClientConnection, kind: str) -> dict[str, Any]:
    while (message := json.loads(await socket.recv()))["type"] != kind:
        assert message["type"] != "error", message
    return message


GOALS = (
    Goal(
        "live hour",
        "an hour of frames at 4 a second, each sent when the last is kept: answers at 20 random times "
        "are those of the window sent as a list; trunk passes = frames; web and engine + <= 1 MB",
        hour,
    ),
    Goal(
        "live tokens",
        "the same frames: at 20 random times the window's tokens are bit-equal to those of the list",
        tokens,
    ),
    Goal(
        "live sessions",
        "50 cameras at 4 frames a second and their questions, 60 s: every late frame counted, no session has "
        "less than half of the median's frames, every question answered",
        many,
    ),
)
