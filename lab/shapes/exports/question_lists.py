"""Clips with questions and answers, for instruction tuning and for tests.

The formats are those of docs/corpus.md: the VideoChatGPT-100K list and its LLaVA-style conversations; the
VideoChatGPT benchmark, MSVD-QA, MSRVTT-QA and ActivityNet-QA.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lab.shapes.captions import caption
from lab.shapes.exports.files import ClipFile, Written, link_clips, write_entries
from lab.shapes.questions import ClipQuestion, questions
from lab.shapes.slots import slot
from lab.shapes.wordings import DESCRIPTIONS

# ActivityNet-QA: motion 0, spatial 1, temporal 2, yes or no 3, colour 4, object 5, location 6, number 7
_OTHER = 8
_TYPES = {
    **dict.fromkeys(("direction", "pace", "resize", "rotate"), 0),
    "relation": 1,
    **dict.fromkeys(("change", "order", "recolour"), 2),
    **dict.fromkeys(("colour", "background"), 4),
    "shape": 5,
    **dict.fromkeys(("count", "number"), 7),
}
_ONE_WORD = {
    "MSVD": ("vid", "video_name", "question_id"),
    "MSRVTT": ("video", "video", "id"),
}  # names, fields
_GENERIC = 3  # static questions about one clip in the benchmark's first file


def write_videochatgpt(root: Path, clips: Sequence[ClipFile], *, seed: int, most: int = 8) -> list[Written]:
    """Write VideoChatGPT_100K.json and video_chatgpt_training.json; clips lie at videos/v_….mp4.

    Args:
        root: folder of the data set.
        clips: what is asked about, up to `most` questions each: one open, the temporal ones, static ones.
        seed: of the choices and wordings.
        most: questions about one clip.
    """
    link_clips((root / "videos" / f"{_video_id(clip)}.mp4" for clip in clips), clips)
    rows = [row for clip in clips for row in _instructions(clip, seed, most)]
    talks = [_conversation(number, row) for number, row in enumerate(rows)]
    return [
        write_entries(
            root / "VideoChatGPT_100K.json",
            rows,
            "VideoChatGPT-100K list of q, a, video_id; videos/video_id.mp4",
        ),
        write_entries(
            root / "video_chatgpt_training.json",
            talks,
            "the same as conversations; features named after the clips with .pkl",
        ),
    ]


def _instructions(clip: ClipFile, seed: int, most: int) -> list[dict[str, str]]:
    rng = clip.rng(seed, "instruction")
    temporal, static = _by_time(questions(clip.scene, rng))
    rng.shuffle(static)
    pairs = [_description(clip, seed), *((each.text, each.sentence) for each in (*temporal, *static))][:most]
    rng.shuffle(pairs)
    return [{"q": text, "a": sentence, "video_id": _video_id(clip)} for text, sentence in pairs]


def _conversation(number: int, row: dict[str, str]) -> dict[str, Any]:
    """Even rows ask before the video, odd rows after it, as the published conversion does."""
    text = f"<video>\n{row['q']}" if number % 2 else f"{row['q']}\n<video>"
    return {
        "id": row["video_id"],
        "video": f"{row['video_id']}.pkl",
        "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": row["a"]}],
    }


def write_benchmark(root: Path, clips: Sequence[ClipFile], *, seed: int) -> list[Written]:
    """Write generic_qa.json, temporal_qa.json and consistency_qa.json; clips lie at Test_Videos/v_….mp4."""
    link_clips((root / "Test_Videos" / f"{_video_id(clip)}.mp4" for clip in clips), clips)
    return [
        write_entries(
            root / f"{name}_qa.json",
            [{"video_name": _video_id(clip), **entry} for clip in clips for entry in entries(clip, seed)],
            f"{about}; clips at Test_Videos/video_name.mp4",
        )
        for name, entries, about in (
            ("generic", _generic, "correctness, detail, context: video_name, Q, A"),
            ("temporal", _temporal, "temporal understanding: video_name, Q, A"),
            ("consistency", _pairs, "consistency: video_name, Q1, Q2, A"),
        )
    ]


def _generic(clip: ClipFile, seed: int) -> Iterator[dict[str, str]]:
    text, sentence = _description(clip, seed)
    yield {"Q": text, "A": sentence}
    rng = clip.rng(seed, "generic")
    _, static = _by_time(questions(clip.scene, rng))
    for question in rng.sample(static, min(_GENERIC, len(static))):
        yield {"Q": question.text, "A": question.sentence}


def _temporal(clip: ClipFile, seed: int) -> Iterator[dict[str, str]]:
    temporal, _ = _by_time(questions(clip.scene, clip.rng(seed, "temporal")))
    yield from ({"Q": question.text, "A": question.sentence} for question in temporal)


def _pairs(clip: ClipFile, seed: int) -> Iterator[dict[str, str]]:
    """One thing asked twice: in a wording of training and in a held-out one."""
    usual, other = (
        questions(clip.scene, clip.rng(seed, "consistency"), held_out=held_out) for held_out in (False, True)
    )
    # what is asked is drawn before the wording, from equal random states: the pairs ask the same
    pairs = list(zip(usual, other, strict=True))
    first, second = clip.rng(seed, "pair").choice([pair for pair in pairs if pair[0].is_temporal] or pairs)
    yield {"Q1": first.text, "Q2": second.text, "A": first.sentence}


def write_one_word_qa(root: Path, clips: Sequence[ClipFile], name: str, *, seed: int) -> Written:
    """Write the test file of MSVD-QA (clips at videos/vidN.mp4) or MSRVTT-QA (videos/videoN.mp4)."""
    stem, *fields = _ONE_WORD[name]
    link_clips((root / "videos" / f"{stem}{number}.mp4" for number in range(len(clips))), clips)
    entries: list[dict[str, Any]] = []
    for number, clip in enumerate(clips):
        for question in questions(clip.scene, clip.rng(seed, name)):
            word = slot(question.kind, question.answer)
            if word is not None and " " not in word:
                ids = dict(zip(fields, (f"{stem}{number}", len(entries)), strict=True))
                entries.append({**ids, "question": question.text, "answer": word})
    about = f"{name}-QA: {', '.join(fields)}, question, answer of one word; clips at videos/{fields[0]}.mp4"
    return write_entries(root / "test_qa.json", entries, about)


def write_activitynet_qa(root: Path, clips: Sequence[ClipFile], *, seed: int) -> list[Written]:
    """Write test_q.json and test_a.json, joined by position; clips lie at videos/v_….mp4."""
    link_clips((root / "videos" / f"{_video_id(clip)}.mp4" for clip in clips), clips)
    entries: list[dict[str, str]] = []
    answers: list[dict[str, Any]] = []
    for clip in clips:
        name = clip.path.stem
        for number, question in enumerate(questions(clip.scene, clip.rng(seed, "activitynet")), 1):
            key = {"question_id": f"{name}_{number}"}
            entries.append({"video_name": name, "question": question.text, **key})
            answers.append({"answer": question.answer, "type": _TYPES.get(question.kind, _OTHER), **key})
    about = "ActivityNet-QA questions: video_name, question, question_id; clips at videos/v_video_name.mp4"
    return [
        write_entries(root / "test_q.json", entries, about),
        write_entries(root / "test_a.json", answers, "their answers, by position: answer, type, question_id"),
    ]


def _video_id(clip: ClipFile) -> str:
    """The clip's name as ActivityNet writes names."""
    return f"v_{clip.path.stem}"


def _description(clip: ClipFile, seed: int) -> tuple[str, str]:
    """An open question about a clip and its caption as a sentence."""
    rng = clip.rng(seed, "description")
    text = caption(clip.scene, rng)
    return DESCRIPTIONS.choose(rng, held_out=False), f"{text[0].upper()}{text[1:]}."


def _by_time(listed: list[ClipQuestion]) -> tuple[list[ClipQuestion], list[ClipQuestion]]:
    """The questions that need the order of frames, and the others."""
    return [each for each in listed if each.is_temporal], [each for each in listed if not each.is_temporal]
