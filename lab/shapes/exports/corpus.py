"""The whole corpus on disk: the clips of three splits, each with the lists of the data sets it stands for."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bt_model.errors import InvalidValueError, require
from lab.shapes.clip_file import CODECS, write_corpus
from lab.shapes.draws import MOST_ITEMS
from lab.shapes.events import KINDS, Still
from lab.shapes.exports import caption_lists, question_lists
from lab.shapes.exports.files import ClipFile, Written, write_entries
from lab.shapes.scene import Scene
from lab.shapes.splits import scenes

MANIFEST = "manifest.json"
PLAN = "plan.json"
STATIC_SHARE = 0.3  # of the training captions leave the event out, or a model would never meet such captions
_LEAST_SIDE = 16  # below it, no shape of any scene can be told from another
_TEST_CAPTIONS = 2  # a clip, in the lists that can hold several
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """What a corpus on disk holds; clips count twins, which lie side by side."""

    num_clips: int = 2000
    num_test_clips: int = 400
    seed: int = 0
    side: int = 64
    kinds: tuple[str, ...] = KINDS
    most_items: int = 1
    textures: bool = False
    diagonals: bool = False
    codec: str = "exact"

    def __post_init__(self) -> None:
        has_kinds = bool(self.kinds) and set(self.kinds) <= set(KINDS)
        has_side = self.side >= _LEAST_SIDE and self.side % 2 == 0
        require(self.num_clips >= 1, "num_clips", self.num_clips, "1 or more")
        require(self.num_test_clips >= 1, "num_test_clips", self.num_test_clips, "1 or more")
        require(has_side, "side", self.side, f"an even number of pixels, {_LEAST_SIDE} or more")
        require(has_kinds, "kinds", ", ".join(self.kinds), f"some of {', '.join(KINDS)}")
        require(1 <= self.most_items <= MOST_ITEMS, "most_items", self.most_items, f"1 to {MOST_ITEMS}")
        require(self.codec in CODECS, "codec", self.codec, f"one of {', '.join(CODECS)}")

    @property
    def splits(self) -> dict[str, int]:
        """Clips by split; the combinations that training never has are made of events."""
        counts = {"train": self.num_clips, "test": self.num_test_clips, "test_combo": self.num_test_clips}
        if set(self.kinds) == {Still.kind}:
            del counts["test_combo"]
        return counts


def make_corpus(
    directory: Path, plan: CorpusPlan, *, workers: int = 1, progress: Progress = lambda *_: None
) -> list[Written]:
    """Write the clips that are not there yet, then all lists; manifest.json comes last and names every file.

    Args:
        directory: made if missing; run again after a stop, the rest is written.
        plan: what to write.
        workers: processes that paint and encode.
        progress: called with the split, how many of its clips are there, and how many it has.

    Raises:
        InvalidValueError: the directory holds a corpus of another plan, or no process is to write it.
    """
    require(workers >= 1, "workers", workers, "1 or more")
    _claim(directory, plan)
    written: list[Written] = []
    for split in plan.splits:
        clips = _write_clips(directory, plan, split, workers, progress)
        export = _export_training if split == "train" else _export_tests
        written += export(directory / split, clips, plan.seed)
    files = [
        {"path": str(each.path.relative_to(directory)), "entries": each.num_entries, "about": each.about}
        for each in written
    ]
    write_entries(directory / MANIFEST, {"plan": asdict(plan), "files": files}, "this list")
    return written


def _claim(directory: Path, plan: CorpusPlan) -> None:
    path = directory / PLAN
    values: dict[str, Any] = asdict(plan) | {"kinds": list(plan.kinds)}
    if path.exists():
        known = json.loads(path.read_text())
        if known != values:
            other = next(name for name in values if known.get(name) != values[name])
            raise InvalidValueError(
                f"{other} {values[other]}: {directory} holds a corpus with {known.get(other)}", param=other
            )
    write_entries(path, values, "what the corpus holds")


def _write_clips(
    directory: Path, plan: CorpusPlan, split: str, workers: int, progress: Progress
) -> list[ClipFile]:
    count = plan.splits[split]
    drawn = scenes(
        split,
        count,
        plan.seed,
        kinds=plan.kinds,
        most_items=plan.most_items,
        textures=plan.textures,
        diagonals=plan.diagonals,
    )
    listed = with_twins(drawn)[:count]
    paths = write_corpus(
        directory / split / "clips",
        listed,
        workers=workers,
        side=plan.side,
        codec=plan.codec,
        progress=lambda done: progress(split, done, len(listed)),
    )
    progress(split, len(listed), len(listed))
    return [ClipFile(path, scene) for path, scene in zip(paths, listed, strict=True)]


def with_twins(drawn: list[Scene]) -> list[Scene]:
    """Return every scene once, followed by its twin."""
    return list(dict.fromkeys(each for scene in drawn for each in (scene, scene.twin())))


def _export_training(root: Path, clips: list[ClipFile], seed: int) -> list[Written]:
    return [
        *caption_lists.write_webvid(root / "webvid", clips, seed=seed, static_share=STATIC_SHARE),
        caption_lists.write_caption_list(
            root / "umt" / "train.json", clips, seed=seed, static_share=STATIC_SHARE
        ),
        *question_lists.write_videochatgpt(root / "videochatgpt", clips, seed=seed),
    ]


def _export_tests(root: Path, clips: list[ClipFile], seed: int) -> list[Written]:
    return [
        *caption_lists.write_webvid(root / "webvid", clips, seed=seed, part="val"),
        caption_lists.write_caption_list(
            root / "umt" / "test.json", clips, seed=seed, num_captions=_TEST_CAPTIONS
        ),
        *caption_lists.write_msrvtt(root / "msrvtt", clips, seed=seed),
        *caption_lists.write_msrvtt(root / "msrvtt", clips, seed=seed, held_out=True),
        *caption_lists.write_recognition(root / "recognition", clips),
        *question_lists.write_benchmark(root / "videochatgpt", clips, seed=seed),
        question_lists.write_one_word_qa(root / "msvd_qa", clips, "MSVD", seed=seed),
        question_lists.write_one_word_qa(root / "msrvtt_qa", clips, "MSRVTT", seed=seed),
        *question_lists.write_activitynet_qa(root / "activitynet_qa", clips, seed=seed),
    ]
