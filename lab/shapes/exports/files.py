"""Files that appear complete or not at all, and clips under the names that a data set gives them."""

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from bt_model.atomic_files import write_text
from bt_model.errors import InvalidValueError
from lab.shapes.scene import Scene


@dataclass(frozen=True, slots=True)
class ClipFile:
    """A clip on disk and what it shows."""

    path: Path
    scene: Scene

    def rng(self, seed: int, purpose: str) -> Random:
        """A random state that a clip shares with its twin: both are described in the same words."""
        return Random(f"{seed} {purpose} {self.scene.key}")


@dataclass(frozen=True, slots=True)
class Written:
    """A list that was written: how many entries it has, and what it is."""

    path: Path
    num_entries: int
    about: str


def write_entries(path: Path, entries: Sequence[Any] | dict[str, Any], about: str) -> Written:
    """Write a JSON list or table."""
    write_text(path, json.dumps(entries, indent=1) + "\n")
    return Written(path, len(entries), about)


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]], about: str) -> Written:
    """Write a CSV with a header line, which is no entry."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())
    return Written(path, len(rows), about)


def write_lines(path: Path, lines: Sequence[str], about: str) -> Written:
    """Write one entry a line."""
    write_text(path, "".join(f"{line}\n" for line in lines))
    return Written(path, len(lines), about)


def link_clips(names: Iterable[Path], clips: Sequence[ClipFile]) -> None:
    """Give every clip a second name: a hard link, or a copy where the file system has none.

    Raises:
        InvalidValueError: two clips would get one name.
    """
    listed = list(names)
    if len(set(listed)) < len(listed):
        twice = next(name for n, name in enumerate(listed) if name in listed[:n])
        raise InvalidValueError(f"clip {twice.name!r}: every clip once", param="clips")
    for name, clip in zip(listed, clips, strict=True):
        _link(name, clip.path)


def _link(name: Path, source: Path) -> None:
    if name.exists() and name.samefile(source):
        return  # renaming a link over another link of the same file would leave both
    name.parent.mkdir(parents=True, exist_ok=True)
    unfinished = name.with_name(f".{name.name}.part")
    unfinished.unlink(missing_ok=True)
    try:
        os.link(source, unfinished)
    except OSError:
        shutil.copyfile(source, unfinished)
    unfinished.replace(name)
