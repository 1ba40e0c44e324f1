"""Instruction files to dialogues about videos: VideoChatGPT-100K's list and its conversations."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bt_model.errors import InvalidValueError
from bt_model.training.data.clip_list import ClipList, ClipSource, PackedTexts, matching

if TYPE_CHECKING:
    from bt_model.training.instruct.settings import InstructData


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class VideoDialogue:
    """Questions about a video with their answers; `is_video_first` says on which side of the first it stands.

    None leaves the order to the template.
    """

    video: str
    exchanges: tuple[Exchange, ...]
    is_video_first: bool | None = None

    def packed(self) -> str:
        pairs = [[each.question, each.answer] for each in self.exchanges]
        return json.dumps([self.video, pairs, self.is_video_first], ensure_ascii=False)

    @classmethod
    def unpacked(cls, text: str) -> "VideoDialogue":
        video, pairs, is_video_first = json.loads(text)
        return cls(video, tuple(Exchange(*each) for each in pairs), is_video_first)


VIDEO = "<video>"
SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".gif")
_FEATURES = ".pkl"  # suffix of feature files in the published conversion's lists
_SPEAKERS = ("human", "gpt")


@dataclass(frozen=True, slots=True)
class DialogueList:
    """All dialogues of a run in their files' order, and how many rows had no question or no answer."""

    dialogues: list[VideoDialogue]
    num_empty: int = 0


def read_dialogues(data: "InstructData") -> DialogueList:
    """All dialogues of a data section.

    Raises:
        InvalidValueError: files that are missing, of another form, or without a dialogue.
    """
    files = [path for pattern in data.annotations for path in matching(pattern)]
    if not files:
        raise InvalidValueError(
            f"data.annotations is {list(data.annotations)!r}; allowed: files that exist",
            param="data.annotations",
        )
    rows = [dialogue for file in files for dialogue in _rows(file, as_published=data.place == "published")]
    dialogues = [row for row in rows if row is not None]
    if not dialogues:
        raise InvalidValueError(
            f"data.annotations: no dialogue in {', '.join(map(str, files[:3]))}", param="data.annotations"
        )
    return DialogueList(dialogues, len(rows) - len(dialogues))


def _rows(path: Path, *, as_published: bool) -> Iterator[VideoDialogue | None]:
    """One dialogue a row, None for an empty one."""
    try:
        listed: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InvalidValueError(f"{path}: not JSON ({error})", param="data.annotations") from error
    number = 0
    try:
        for number, row in enumerate(listed):
            is_conversation = "conversations" in row
            read = _conversation(row) if is_conversation else _pair(row, number)
            yield _checked(read if as_published else VideoDialogue(read.video, read.exchanges))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidValueError(
            f'{path}, row {number}: neither {{"q", "a", "video_id"}} nor {{"video", "conversations"}} '
            f"({type(error).__name__}: {error})",
            param="data.annotations",
        ) from error


def _checked(dialogue: VideoDialogue) -> VideoDialogue | None:
    """None where a question or an answer is empty, since later turns would lack their context."""
    is_whole = all(each.question and each.answer for each in dialogue.exchanges)
    return dialogue if dialogue.exchanges and is_whole else None


def _pair(row: dict[str, Any], number: int) -> VideoDialogue:
    """Even rows ask before the video, odd rows after it, as the published conversion does."""
    exchange = Exchange(_text(row["q"]), _text(row["a"]))
    return VideoDialogue(_video(row["video_id"]), (exchange,), bool(number % 2))


def _video(value: object) -> str:
    """A video's id; its file is looked for below the videos' folder."""
    name = _text(value)
    if name.startswith("/") or ".." in Path(name).parts:
        raise ValueError(f"{name!r} is not the name of a video below data.root")
    return name


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value.strip()


def _conversation(row: dict[str, Any]) -> VideoDialogue:
    """Turns in pairs; a last question without an answer is left out."""
    turns = [(each["from"], _text(each["value"])) for each in row["conversations"]]
    for number, (speaker, _) in enumerate(turns):
        if speaker != _SPEAKERS[number % 2]:
            raise ValueError(f"turn {number} is from {speaker!r}; allowed: {_SPEAKERS[number % 2]!r}")
    is_video_first = bool(turns) and turns[0][1].startswith(VIDEO)
    if turns:
        turns[0] = ("human", _without_video(turns[0][1]))
    if any(VIDEO in text for speaker, text in turns if speaker == "human"):
        raise ValueError(f"{VIDEO} stands elsewhere than at one end of the first question")
    pairs = zip(turns[::2], turns[1::2], strict=False)
    exchanges = tuple(Exchange(question, answer) for (_, question), (_, answer) in pairs)
    return VideoDialogue(_without_suffix(_video(row["video"])), exchanges, is_video_first)


def _without_video(text: str) -> str:
    start = text.removeprefix(VIDEO)
    return (start if start != text else text.removesuffix(VIDEO)).strip()


def _without_suffix(name: str) -> str:
    """The id in a file name; ids may contain dots."""
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in (*SUFFIXES, _FEATURES) else name


def find_videos(root: Path) -> dict[str, Path]:
    """Every video below a folder, by its name without suffix; the first by path if names are equal."""
    files = (path for path in sorted(root.rglob("*"), reverse=True) if path.suffix.lower() in SUFFIXES)
    return {path.stem: path for path in files}


def pack_dialogues(dialogues: Sequence[VideoDialogue], files: dict[str, Path], root: Path) -> ClipList:
    """Dialogues with the paths of their videos, or with the expected path of a missing video."""
    paths = (files.get(each.video, root / f"{each.video}.mp4") for each in dialogues)
    sources = (ClipSource(str(path)).packed() for path in paths)
    texts = PackedTexts(each.packed() for each in dialogues)
    return ClipList(PackedTexts(sources), texts, np.arange(len(dialogues) + 1))
