"""Clips and their captions by number: millions of them, packed, since every rank holds the whole list.

They come from WebVid's table, VindLU's list, or WebDataset's tar shards (data/shards.py).
"""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bt_model.errors import InvalidValueError
from bt_model.training.data.shards import shard_clips

if TYPE_CHECKING:
    from bt_model.training.pretrain.settings import PretrainData

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class ClipSource:
    """A clip's file, or the `length` bytes from `start` of a file (a tar shard)."""

    path: str
    start: int = 0
    length: int = 0

    def packed(self) -> str:
        return f"{self.start}:{self.length}:{self.path}"

    @classmethod
    def unpacked(cls, text: str) -> "ClipSource":
        start, length, path = text.split(":", 2)
        return cls(path, int(start), int(length))


class PackedTexts(Sequence[str]):
    """Strings in one block of bytes."""

    def __init__(self, texts: Iterable[str]) -> None:
        block, ends = bytearray(), list[int]()
        for text in texts:
            block += text.encode("utf-8", "surrogatepass")
            ends.append(len(block))
        self._block = bytes(block)
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices
        begin = self._ends[index - 1] if index else 0
        return self._block[begin : self._ends[index]].decode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class ClipList:
    """N clips; clip i has the captions `first[i]` up to, not including, `first[i + 1]`."""

    sources: PackedTexts
    captions: PackedTexts
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sources)

    def source(self, index: int) -> ClipSource:
        return ClipSource.unpacked(self.sources[index])

    def captions_of(self, index: int) -> list[str]:
        """All captions of a clip; one at least."""
        return [self.captions[row] for row in range(self.first[index], self.first[index + 1])]


@dataclass(frozen=True, slots=True)
class MissingFiles:
    """How many of a list's clips have no file, and the first few of those files."""

    num: int
    of: int
    first: tuple[str, ...]


def missing_files(clips: ClipList, num_shown: int = 3) -> MissingFiles:
    """Which clips' files are not there; folders are listed, so that millions of clips take seconds."""
    names_in = lru_cache(maxsize=1024)(_names_in)
    num, first = 0, list[str]()
    for index in range(len(clips)):
        path = clips.source(index).path
        folder, name = os.path.split(path)
        if name not in names_in(folder):
            num += 1
            first += [path] if len(first) < num_shown else []
    return MissingFiles(num, len(clips), tuple(first))


def _names_in(folder: str) -> frozenset[str]:
    try:
        return frozenset(path.name for path in Path(folder).iterdir())
    except OSError:
        return frozenset()


_Entry = tuple[ClipSource, Sequence[str]]


def pack_clips(entries: Iterable[_Entry], max_caption: int, where: str) -> ClipList:
    """Clips with captions as a list; captions are cut to `max_caption` characters, empty ones dropped.

    Raises:
        InvalidValueError: no clip is left.
    """
    sources, captions, first = list[str](), list[str](), [0]
    for source, said in entries:
        kept = [text.strip()[:max_caption] for text in said if _says_something(text)]
        if kept:
            sources.append(source.packed())
            captions += kept
            first.append(len(captions))
    if not sources:
        raise InvalidValueError(
            f"data.annotations: no clip with a caption in {where}", param="data.annotations"
        )
    return ClipList(PackedTexts(sources), PackedTexts(captions), np.array(first, np.int64))


def _says_something(text: str) -> bool:
    """Whether a caption is neither empty nor a table's word for a missing value."""
    return text.strip().lower() not in ("", "nan")


def matching(pattern: str) -> list[Path]:
    """The files that match a path, with or without wildcards, sorted."""
    return [Path(name) for name in sorted(glob(pattern))]  # noqa: PTH207 - absolute patterns are allowed here


_WEBVID = ("videoid", "page_dir", "name")


def read_clips(data: "PretrainData", work: Path) -> ClipList:
    """All clips of a data section; the index of tar shards, which is slow to build, is stored in `work`.

    Raises:
        InvalidValueError: files that are missing, unreadable, or without a clip.
    """
    files = [path for pattern in data.annotations for path in matching(pattern)]
    if not files:
        raise InvalidValueError(
            f"data.annotations is {list(data.annotations)!r}; allowed: files that exist",
            param="data.annotations",
        )
    entries = _entries(data.format, files, Path(data.root), work)
    return pack_clips(entries, data.max_caption, ", ".join(map(str, files[:3])))


def _entries(kind: str, files: Sequence[Path], root: Path, work: Path) -> Iterator[_Entry]:
    if kind == "webdataset":
        for clip in shard_clips(files, work / "shards.jsonl"):
            yield ClipSource(str(clip.shard), clip.start, clip.length), (clip.caption,)
        return
    read = {"webvid": webvid_entries, "vindlu": vindlu_entries}[kind]
    for file in files:
        yield from read(file, root)


def webvid_entries(table: Path, root: Path) -> Iterator[_Entry]:
    """WebVid's CSV in either column order: root / page_dir / videoid.mp4, captioned by `name`.

    Raises:
        InvalidValueError: no CSV with these columns.
    """
    rows = _csv_rows(table)
    _, header = next(rows, (0, []))
    if not set(_WEBVID) <= set(header):
        raise InvalidValueError(
            f"{table} has the columns {', '.join(header)}; allowed: a header with {', '.join(_WEBVID)}",
            param="data.annotations",
        )
    columns = [header.index(name) for name in _WEBVID]
    for line, row in rows:
        if len(row) > max(columns):
            number, folder, caption = (row[column] for column in columns)
            path = root / folder / f"{number}.mp4"
            if _may_leave(folder) or _may_leave(number):
                _require_below(root, path, f"{table}, line {line}")
            yield ClipSource(str(path)), (caption,)


def _csv_rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, each with the number of its last line; a mark at the file's start is left out.

    Raises:
        InvalidValueError: not UTF-8, or no CSV.
    """
    with table.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        try:
            for row in rows:
                yield rows.line_num, row
        except UnicodeDecodeError as error:
            raise InvalidValueError(
                f"{table}, {_first_not_utf8(table)}; allowed: UTF-8 (`iconv -f LATIN1 -t UTF-8` converts)",
                param="data.annotations",
            ) from error
        except csv.Error as error:
            raise InvalidValueError(
                f"{table}, line {rows.line_num}: not CSV ({error})", param="data.annotations"
            ) from error


def _first_not_utf8(path: Path) -> str:
    """Where a file stops being UTF-8; the error of a reader counts from wherever its own block begins."""
    start = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"line {number}: byte {line[error.start]:#04x} at {start + error.start} is not UTF-8"
            start += len(line)
    return f"byte {start}: the last character is cut off"


def _may_leave(name: str) -> bool:
    """Whether part of a path may lead out of the folder that it is joined to."""
    return ".." in name or name.startswith("/")


def _require_below(root: Path, path: Path, where: str) -> None:
    """Raises InvalidValueError: a path, named by `where`, that is not below the root."""
    whole, folder = (Path(os.path.normpath(each.absolute())) for each in (path, root))
    if not whole.is_relative_to(folder):
        raise InvalidValueError(
            f"{where}: {str(path)!r} is not below data.root, {str(root)!r}; allowed: paths below it",
            param="data.annotations",
        )


def vindlu_entries(path: Path, root: Path) -> Iterator[_Entry]:
    """VindLU's and UMT's JSON: a list of {"video": path, "caption": text or list of texts}.

    Raises:
        InvalidValueError: no such list.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for number, row in enumerate(rows):
            said, clip = row["caption"], root / row["video"]
            if _may_leave(row["video"]):
                _require_below(root, clip, f"{path}, row {number}")
            yield ClipSource(str(clip)), (said,) if isinstance(said, str) else tuple(said)
    except InvalidValueError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(
            f'{path}: not a list of {{"video", "caption"}} ({type(error).__name__}: {error})',
            param="data.annotations",
        ) from error
