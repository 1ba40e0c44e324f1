"""Whether a change left every answer as it was.

`python -m tests.recorded_answers --write F` before it, `--check F` after it. 200 seeded questions about 50
drawn clips, answered greedily by each of MODELS: frames and pooled video tokens are held as hashes of their
exact bytes, answers as token ids and text. The same machine and versions give the same file.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from bt_model.assembly.load import load

# these move when folders move; nothing below names a module
from bt_model.chat import VideoChat
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Delta, Finish
from bt_model.types import GenerateOptions, Sampling, Turn, VideoTokens
from bt_model.video.decode import decode
from lab.shapes.clip_file import write_clip
from lab.shapes.questions import ClipQuestion, questions
from lab.shapes.scene import Scene
from lab.shapes.splits import scenes

MODELS = ("embedded", "embedded-zeroshot")
WEIGHTS = Path(__file__).parent.parent / "weights"
NUM_CLIPS = 50
QUESTIONS_PER_CLIP = 4
SEED = 20261129
SAMPLINGS = (
    Sampling(),
    Sampling(num_frames=16),
    Sampling(num_frames=6, strategy="middle"),
    Sampling(num_frames=8, strategy="random", seed=3),
    Sampling(fps=4.0, start=0.25),
)
SHOWN_DIFFERENCES = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """One clip on disk, how it is sampled, and what is asked about it."""

    key: str
    path: Path
    sampling: Sampling
    questions: tuple[ClipQuestion, ...]


def main(arguments: list[str] | None = None) -> int:
    """Write the record or compare with one; 1 when something differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--write", type=Path, metavar="F", help="record the answers in this file")
    mode.add_argument("--check", type=Path, metavar="F", help="compare with this file")
    chosen = parser.parse_args(arguments)
    before: Any = json.loads(chosen.check.read_text(encoding="utf-8")) if chosen.check else None
    torch.set_num_threads(1)  # sums of several threads may round differently
    record = recorded()
    if before is None:
        chosen.write.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        say(f"{chosen.write}: {count_of(record)}")
        return 0
    found = list(differences(before, json.loads(json.dumps(record))))
    for line in found[:SHOWN_DIFFERENCES]:
        say(line)
    say(f"{len(found)} differences from {chosen.check} in {count_of(record)}")
    return 1 if found else 0


def recorded() -> dict[str, Any]:
    """What every model makes of every clip."""
    with tempfile.TemporaryDirectory(prefix="btchat-answers-") as folder:
        asked = list(drawn(Path(folder)))
        clips = {each.key: {"file": sha256(each.path.read_bytes())} for each in asked}
        return {"clips": clips, "models": {model: answers_of(model, asked) for model in MODELS}}


def drawn(folder: Path) -> Iterator[Asked]:
    """Scenes of both test splits, half of them plain and half rich, each with its twin."""
    quarter = NUM_CLIPS // 4
    plain = scenes("test_combo", quarter, SEED)
    rich = scenes("test", NUM_CLIPS // 2 - quarter, SEED, most_items=3, textures=True, diagonals=True)
    twins = [twin for scene in (*plain, *rich) for twin in (scene, scene.twin())]
    for number, scene in enumerate(twins):
        path = folder / f"{number}.mp4"
        write_clip(path, scene)
        sampling = SAMPLINGS[number // 2 % len(SAMPLINGS)]
        yield Asked(f"{number:02d} {scene.key}", path, sampling, about(scene, number))


def about(scene: Scene, number: int) -> tuple[ClipQuestion, ...]:
    """Four questions; a scene with fewer kinds is asked again in other words."""
    rng = Random(f"{SEED} {number // 2}")  # twins are asked the same
    listed: list[ClipQuestion] = []
    while len(listed) < QUESTIONS_PER_CLIP:
        listed += questions(scene, rng)
    return tuple(listed[:QUESTIONS_PER_CLIP])


def answers_of(model: str, asked: list[Asked]) -> dict[str, Any]:
    """One model's frames, tokens and answers, by clip."""
    chat = load(model, WEIGHTS, device="cpu")
    engine = BatchEngine(chat.backend.lm, max_batch=1)
    engine.start()
    try:
        return {each.key: answered(chat, engine, each) for each in asked}
    finally:
        engine.stop()


def answered(chat: VideoChat, engine: BatchEngine, asked: Asked) -> dict[str, Any]:
    frames = decode(asked.path, asked.sampling, chat.card.frame_size, chat.card.default_frames)
    tokens = chat.encode(torch.from_numpy(frames.pixels)[None])[0]
    video = VideoTokens(asked.key.encode(), tokens)
    return {
        "frames": sha256(frames.pixels.tobytes()),
        "indices": list(frames.indices),
        "tokens": sha256(tokens.contiguous().view(torch.uint8).numpy().tobytes()),
        "answers": [answer(chat, engine, video, question.text) for question in asked.questions],
    }


def answer(chat: VideoChat, engine: BatchEngine, video: VideoTokens, question: str) -> dict[str, Any]:
    options = GenerateOptions(temperature=0.0)
    request = chat.request([Turn("user", question)], [video], options, request_id=question)
    text, ids, said, reason = chat.text_stream(options), list[int](), "", ""
    for event in engine.submit(request).stream():
        match event:
            case Delta(token_ids=new):
                ids += new
                said += text.push(new)
            case Finish(reason=reason):
                said += text.finish()
    return {"question": question, "ids": ids, "text": said, "ends": reason}


def differences(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """A line for each leaf of two JSON values that is not the same in both."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from differences(before.get(key), after.get(key), f"{place} / {key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from differences(old, new, f"{place} / {number}")
    elif before != after:
        yield f"{place}: {before!r} -> {after!r}"


def count_of(record: dict[str, Any]) -> str:
    clips = [clip for model in record["models"].values() for clip in model.values()]
    answers = sum(len(clip["answers"]) for clip in clips)
    return f"{answers} answers about {len(record['clips'])} clips by {len(record['models'])} models"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
