"""The main job with the embedded model: time to first token, tokens per CPU second, step times, memory.

python -m benchmarks.main_job. Ratios within one run are what counts; wall times are of this machine in
this minute.
"""

import asyncio
import json
import tempfile
import time
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import httpx
import torch

from benchmarks.process_tree import cpu_seconds, peak_bytes
from benchmarks.record import record
from benchmarks.streamed_answer import StreamedAnswer, ask, user
from bt_model.assembly.load import load
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Finish, GenRequest
from bt_model.types import Turn, VideoTokens
from btchat.commands.running_server import RunningServer, running_server
from lab.shapes.clip_file import write_clip
from lab.shapes.splits import scenes
from server.settings import Settings

NUM_CLIPS = 24
NUM_ROUNDS = 8
CONCURRENT = 16
NEW_TOKENS = 64
QUESTIONS = ("what colour is the background?", "what shape is the object?")


def main() -> None:
    """Measure, print and record."""
    with tempfile.TemporaryDirectory(prefix="btchat-bench-") as folder:
        begin = time.monotonic()
        with running_server(Path(folder) / "data") as server:
            start = time.monotonic() - begin
            figures = asyncio.run(_through_http(server, Path(folder)))
            peaks = peak_bytes(server.process.pid)
    figures["server_start_seconds"] = start
    figures["peak_memory_mib"] = {name: round(size / 2**20) for name, size in peaks.items()}
    figures["generation_engine"] = _engine_alone()
    print(json.dumps(figures, indent=2))
    print(record("main_job", figures))


async def _through_http(server: RunningServer, folder: Path) -> dict[str, Any]:
    paths = [folder / f"{number}.mp4" for number in range(NUM_CLIPS)]
    for path, scene in zip(paths, scenes("test", NUM_CLIPS, seed=1), strict=True):
        write_clip(path, scene)
    async with httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as client:
        uploads = [await client.post("/v1/video/uploads", content=path.read_bytes()) for path in paths]
        videos = [str(upload.json()["id"]) for upload in uploads]
        cold = [await ask(client, video, [user(QUESTIONS[0])]) for video in videos]
        warm = [await ask(client, video, [user(QUESTIONS[1])]) for video in videos]
        one = await _throughput(client, server, videos, 1)
        many = await _throughput(client, server, videos, CONCURRENT)
    first = median(answer.first_seconds for answer in cold)
    second = median(answer.first_seconds for answer in warm)
    return {
        "time_to_first_token_ms": {
            "very_first": 1e3 * cold[0].first_seconds,
            "first_question": 1e3 * first,
            "second_question": 1e3 * second,
            "ratio_second_to_first": second / first,
        },
        "step_ms_first_question": _steps(cold),
        "step_ms_second_question": _steps(warm),
        "through_http": {"1": one, str(CONCURRENT): many},
    }


def _steps(answers: list[StreamedAnswer]) -> dict[str, float]:
    """Medians of the seconds that the receipts tell, in milliseconds."""
    timings = [answer.receipt["seconds"] for answer in answers]
    return {
        name: 1e3 * median(t[name] for t in timings) for name in timings[0] if timings[0][name] is not None
    }


async def _throughput(
    client: httpx.AsyncClient, server: RunningServer, videos: list[str], concurrent: int
) -> dict[str, float]:
    """Questions about videos whose tokens are cached, `concurrent` at a time."""
    places = asyncio.Semaphore(concurrent)
    rng = Random(0)
    asked = [(rng.choice(videos), rng.choice(QUESTIONS)) for _ in range(NUM_ROUNDS * CONCURRENT)]

    async def one(video: str, question: str) -> int:
        async with places:
            return (await ask(client, video, [user(question)])).num_tokens

    cpu, begin = cpu_seconds(server.process.pid), time.monotonic()
    tokens = sum(await asyncio.gather(*(one(video, question) for video, question in asked)))
    wall = time.monotonic() - begin
    cpu = cpu_seconds(server.process.pid) - cpu
    return {
        "tokens_per_cpu_second": tokens / cpu,
        "answers_per_cpu_second": len(asked) / cpu,
        "answers_per_second": len(asked) / wall,
    }


def _engine_alone() -> dict[str, float]:
    """Tokens per CPU second of the engine with the embedded decoder, without HTTP, stop tokens off."""
    torch.set_num_threads(1)
    chat = load("embedded", Settings.model_fields["weights_dir"].default, device="cpu")
    video = VideoTokens(b"noise", torch.randn(chat.card.num_video_tokens, chat.card.video_dim))
    segments = chat.backend.segments([Turn("user", QUESTIONS[0])], [video])
    rates: dict[str, float] = {}
    for rows in (1, CONCURRENT):
        engine = BatchEngine(chat.backend.lm, max_batch=rows)
        engine.start()
        begin = time.process_time()
        handles = [
            engine.submit(GenRequest(str(row), segments, NEW_TOKENS, frozenset())) for row in range(rows)
        ]
        new = sum(e.num_new for handle in handles for e in handle.stream() if isinstance(e, Finish))
        rates[f"tokens_per_cpu_second_{rows}"] = new / (time.process_time() - begin)
        engine.stop()
    return rates


if __name__ == "__main__":
    main()
