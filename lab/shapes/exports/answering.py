"""Question-answering tests: the VideoChatGPT benchmark, MSVD-QA, MSRVTT-QA and ActivityNet-QA.

Formats: training spec 4.1.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.shapes.exports.files import ClipFile, Written, link_clips, write_entries
from lab.shapes.exports.instruction import described, video_id
from lab.shapes.questions import ClipQuestion, questions
from lab.shapes.slots import slot

# motion 0, spatial 1, temporal 2, yes or no 3, colour 4, object 5, location 6, number 7, other 8
_OTHER = 8
_TYPES = {
    **dict.fromkeys(("direction", "pace", "resize", "rotate"), 0),
    "relation": 1,
    **dict.fromkeys(("change", "order", "recolour"), 2),
    **dict.fromkeys(("colour", "background"), 4),
    "shape": 5,
    **dict.fromkeys(("count", "number"), 7),
}
_GENERIC = 3  # static questions about one clip in the benchmark's first file


def write_benchmark(root: Path, clips: Sequence[ClipFile], *, seed: int) -> list[Written]:
    """Write generic_qa.json, temporal_qa.json and consistency_qa.json; clips lie at Test_Videos/v_….mp4."""
    link_clips((root / "Test_Videos" / f"{video_id(clip)}.mp4" for clip in clips), clips)
    generic, temporal, consistency = (
        [entry for clip in clips for entry in entries(clip, seed)]
        for entries in (_generic, _temporal, _pairs)
    )
    where = "clips at Test_Videos/video_name.mp4"
    return [
        write_entries(
            root / "generic_qa.json", generic, f"correctness, detail, context: video_name, Q, A; {where}"
        ),
        write_entries(
            root / "temporal_qa.json", temporal, f"temporal understanding: video_name, Q, A; {where}"
        ),
        write_entries(
            root / "consistency_qa.json", consistency, f"consistency: video_name, Q1, Q2, A; {where}"
        ),
    ]


def _generic(clip: ClipFile, seed: int) -> Iterator[dict[str, str]]:
    text, sentence = described(clip, seed)
    yield {"video_name": video_id(clip), "Q": text, "A": sentence}
    rng = clip.rng(seed, "generic")
    static = [question for question in questions(clip.scene, rng) if not question.is_temporal]
    for question in rng.sample(static, min(_GENERIC, len(static))):
        yield {"video_name": video_id(clip), "Q": question.text, "A": question.sentence}


def _temporal(clip: ClipFile, seed: int) -> Iterator[dict[str, str]]:
    for question in questions(clip.scene, clip.rng(seed, "temporal")):
        if question.is_temporal:
            yield {"video_name": video_id(clip), "Q": question.text, "A": question.sentence}


def _pairs(clip: ClipFile, seed: int) -> Iterator[dict[str, str]]:
    """One thing asked twice: in a wording of training and in a held-out one."""
    first, second = (
        questions(clip.scene, clip.rng(seed, "consistency"), held_out=held_out) for held_out in (False, True)
    )
    # what is asked is drawn before the wording, from equal random states: the pairs ask the same
    both = list(zip(first, second, strict=True))
    chosen = clip.rng(seed, "pair").choice([pair for pair in both if pair[0].is_temporal] or both)
    yield {
        "video_name": video_id(clip),
        "Q1": chosen[0].text,
        "Q2": chosen[1].text,
        "A": chosen[0].sentence,
    }


def write_msvd_qa(root: Path, clips: Sequence[ClipFile], *, seed: int) -> list[Written]:
    """Write MSVD-QA's test file, answers of one word; clips lie at videos/vidN.mp4."""
    return _write_one_word(root, clips, seed, "MSVD", ("video_name", "question_id"), "vid")


def write_msrvtt_qa(root: Path, clips: Sequence[ClipFile], *, seed: int) -> list[Written]:
    """Write MSRVTT-QA's test file, answers of one word; clips lie at videos/videoN.mp4."""
    return _write_one_word(root, clips, seed, "MSRVTT", ("video", "id"), "video")


def _write_one_word(
    root: Path, clips: Sequence[ClipFile], seed: int, name: str, fields: tuple[str, str], stem: str
) -> list[Written]:
    link_clips((root / "videos" / f"{stem}{number}.mp4" for number in range(len(clips))), clips)
    entries: list[dict[str, Any]] = []
    for number, clip in enumerate(clips):
        for question in questions(clip.scene, clip.rng(seed, name)):
            word = slot(question.kind, question.answer)
            if word is not None and " " not in word:
                place = dict(zip(fields, (f"{stem}{number}", len(entries)), strict=True))
                entries.append({**place, "question": question.text, "answer": word})
    about = f"{name}-QA: {', '.join(fields)}, question, answer of one word; clips at videos/{fields[0]}.mp4"
    return [write_entries(root / "test_qa.json", entries, about)]


def write_activitynet_qa(root: Path, clips: Sequence[ClipFile], *, seed: int) -> list[Written]:
    """Write test_q.json and test_a.json, joined by position; clips lie at videos/v_….mp4."""
    link_clips((root / "videos" / f"{video_id(clip)}.mp4" for clip in clips), clips)
    asked: list[dict[str, str]] = []
    answers: list[dict[str, Any]] = []
    for clip in clips:
        for number, question in enumerate(questions(clip.scene, clip.rng(seed, "activitynet"))):
            name = clip.path.stem
            key = {"question_id": f"{name}_{number + 1}"}
            asked.append({"video_name": name, "question": question.text, **key})
            answers.append({"answer": question.answer, "type": _type(question), **key})
    return [
        write_entries(
            root / "test_q.json",
            asked,
            "ActivityNet-QA questions: video_name, question, question_id; clips at videos/v_video_name.mp4",
        ),
        write_entries(root / "test_a.json", answers, "their answers, by position: answer, type, question_id"),
    ]


def _type(question: ClipQuestion) -> int:
    return _TYPES.get(question.kind, _OTHER)
