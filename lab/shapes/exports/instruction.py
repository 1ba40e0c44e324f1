"""Questions and answers for instruction tuning: the VideoChatGPT-100K list and its LLaVA-style conversations.

Formats: training spec 2.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.shapes.captions import caption
from lab.shapes.exports.files import ClipFile, Written, link_clips, write_entries
from lab.shapes.questions import questions
from lab.shapes.wordings import DESCRIPTIONS

_VIDEO = "<video>"


def video_id(clip: ClipFile) -> str:
    """Return the clip's name as ActivityNet spells names."""
    return f"v_{clip.path.stem}"


def described(clip: ClipFile, seed: int, *, held_out: bool = False) -> tuple[str, str]:
    """Return an open question about a clip and its caption as a sentence."""
    rng = clip.rng(seed, "description")
    text = caption(clip.scene, rng, held_out=held_out)
    return DESCRIPTIONS.choose(rng, held_out), f"{text[0].upper()}{text[1:]}."


def write_videochatgpt(root: Path, clips: Sequence[ClipFile], *, seed: int, most: int = 8) -> list[Written]:
    """Write VideoChatGPT_100K.json and video_chatgpt_training.json; clips lie at videos/v_….mp4.

    Args:
        root: folder of the data set.
        clips: what is asked about, up to `most` questions each: one open, the temporal ones, static ones.
        seed: of the choices and wordings.
        most: questions about one clip.
    """
    link_clips((root / "videos" / f"{video_id(clip)}.mp4" for clip in clips), clips)
    rows = [row for clip in clips for row in _rows(clip, seed, most)]
    return [
        write_entries(
            root / "VideoChatGPT_100K.json",
            rows,
            "VideoChatGPT-100K list of q, a, video_id; videos/video_id.mp4",
        ),
        write_entries(
            root / "video_chatgpt_training.json",
            [_conversation(number, row) for number, row in enumerate(rows)],
            "the same as conversations; features named after the clips with .pkl",
        ),
    ]


def _rows(clip: ClipFile, seed: int, most: int) -> list[dict[str, str]]:
    rng = clip.rng(seed, "instruction")
    asked = questions(clip.scene, rng)
    temporal = [question for question in asked if question.is_temporal]
    static = [question for question in asked if not question.is_temporal]
    rng.shuffle(static)
    said = [(question.text, question.sentence) for question in (*temporal, *static)]
    said = [described(clip, seed), *said][:most]
    rng.shuffle(said)
    return [{"q": text, "a": sentence, "video_id": video_id(clip)} for text, sentence in said]


def _conversation(number: int, row: dict[str, str]) -> dict[str, Any]:
    """Even rows ask before the video, odd rows after it, as the published conversion does."""
    asked = f"{_VIDEO}\n{row['q']}" if number % 2 else f"{row['q']}\n{_VIDEO}"
    return {
        "id": row["video_id"],
        "video": f"{row['video_id']}.pkl",
        "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": row["a"]}],
    }
