"""What the embedded model answers through HTTP, on clips of combinations that training never saw.

python -m benchmarks.embedded [--scenes N]: a server with the tuned branch, one with the pre-trained branch
plugged into a chat model that never saw a video, one with CLIP averaged over frames; the same clips, the same
questions. An answer is right if it names the one right value (lab/shapes/slots.py); intervals are 95 %,
from a bootstrap over scenes.
"""

import argparse
import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import httpx

from benchmarks.record import record
from btchat.commands.running_server import running_server
from lab.evaluate import AnswerRecord
from lab.shapes.clip_file import write_clip
from lab.shapes.questions import TEMPORAL, ClipQuestion, questions
from lab.shapes.scene import Scene
from lab.shapes.slots import is_right
from lab.shapes.splits import scenes

SEED = 977  # other scenes than those of the training run's own report
CONCURRENCY = 8
MODELS = ("embedded", "embedded-zeroshot", "embedded-clip")


def main() -> None:
    """Measure all models, print and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=300, help="each is asked forwards and backwards")
    arguments = parser.parse_args()
    listed = scenes("test_combo", arguments.scenes, seed=SEED)
    with tempfile.TemporaryDirectory(prefix="btchat-bench-") as folder:
        clips = _make_clips(Path(folder), listed)
        results = {model: asyncio.run(_measure(model, Path(folder), clips)) for model in MODELS}
    figures: dict[str, Any] = {}
    for model, answers in results.items():
        shares = answers.shares()
        twins = {kind: answers.twins(kind) for kind in TEMPORAL}
        print(f"\n{model}")
        for kind, value in shares.items():
            print(f"  {kind:12s} right      {value}")
        for kind, value in twins.items():
            print(f"  {kind:12s} both twins {value}")
        figures[model] = {
            "right": {kind: asdict(value) for kind, value in shares.items()},
            "both_twins": {kind: asdict(value) for kind, value in twins.items()},
        }
    print(f"\n{record('embedded', {'scenes': arguments.scenes, 'seed': SEED, **figures})}")


def _make_clips(folder: Path, listed: list[Scene]) -> list[tuple[Scene, bytes]]:
    both = [twin for scene in listed for twin in (scene, scene.twin())]
    path = folder / "clip.mp4"
    clips: list[tuple[Scene, bytes]] = []
    for scene in both:
        write_clip(path, scene)
        clips.append((scene, path.read_bytes()))
    return clips


async def _measure(model: str, folder: Path, clips: list[tuple[Scene, bytes]]) -> AnswerRecord:
    answers = AnswerRecord()
    slots = asyncio.Semaphore(CONCURRENCY)
    with running_server(folder / model, model=model) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=120, trust_env=False) as client:

            async def one(scene: Scene, clip: bytes) -> None:
                async with slots:
                    await _ask_about(client, model, scene, clip, answers)

            await asyncio.gather(*(one(scene, clip) for scene, clip in clips))
    return answers


async def _ask_about(
    client: httpx.AsyncClient, model: str, scene: Scene, clip: bytes, answers: AnswerRecord
) -> None:
    upload = await client.post("/v1/video/uploads", content=clip)
    upload.raise_for_status()
    video = upload.json()["id"]
    for question in questions(scene, Random(f"{SEED} {scene.key}")):
        answer = await _ask(client, model, video, question)
        answers.add(question.kind, scene, is_right(question, answer))
    (await client.delete(f"/v1/video/uploads/{video}")).raise_for_status()


async def _ask(client: httpx.AsyncClient, model: str, video: str, question: ClipQuestion) -> str:
    body = {
        "video": video,
        "model": model,
        "messages": [{"role": "user", "content": question.text}],
        "temperature": 0,
    }
    answer = await client.post("/v1/video/chat", json=body)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


if __name__ == "__main__":
    main()
