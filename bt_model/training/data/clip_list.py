"""Clips and their captions by number: millions of them, packed, since every rank holds the whole list.

They come from WebVid's table, VindLU's list, or WebDataset's tar shards. In a shard a sample's members share
the name before the first dot of their last path part: mp4, with txt or json. Where every clip lies in its
shard is found once and written down as one JSON line a shard, so that any clip can be read at any time.
"""

import csv
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bt_model.errors import InvalidValueError

if TYPE_CHECKING:
    from bt_model.training.pretrain.config import DataSettings

_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Source:
    """Where a clip's bytes are: a file, or `length` bytes of one (a tar shard) from `start` on."""

    path: str
    start: int = 0
    length: int = 0

    def spelt(self) -> str:
        return f"{self.start}:{self.length}:{self.path}"

    @classmethod
    def read(cls, text: str) -> "Source":
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

    def source(self, index: int) -> Source:
        return Source.read(self.sources[index])

    def captions_of(self, index: int) -> list[str]:
        """All captions of a clip; one at least."""
        return [self.captions[row] for row in range(self.first[index], self.first[index + 1])]


Entry = tuple[Source, Sequence[str]]


def listed(entries: Iterable[Entry], max_caption: int, where: str) -> ClipList:
    """Clips with captions as a list; captions are cut to `max_caption` characters, empty ones dropped.

    Raises:
        InvalidValueError: no clip is left.
    """
    sources, captions, first = list[str](), list[str](), [0]
    for source, said in entries:
        kept = [text.strip()[:max_caption] for text in said if _says_something(text)]
        if kept:
            sources.append(source.spelt())
            captions += kept
            first.append(len(captions))
    if not sources:
        raise InvalidValueError(
            f"data.annotations: no clip with a caption in {where}", param="data.annotations"
        )
    return ClipList(PackedTexts(sources), PackedTexts(captions), np.array(first, np.int64))


def _says_something(text: str) -> bool:
    """Not empty, and not what a table writes for nothing."""
    return text.strip().lower() not in ("", "nan")


def matching(pattern: str) -> list[Path]:
    """The files of a path with or without wildcards, in order."""
    return [Path(name) for name in sorted(glob(pattern))]  # noqa: PTH207 - absolute patterns are allowed here


_WEBVID = ("videoid", "page_dir", "name")


def read_clips(data: "DataSettings", work: Path) -> ClipList:
    """All clips of a data section; what is slow to find out about shards is kept in `work`.

    Raises:
        InvalidValueError: files that are missing, unreadable, or without a clip.
    """
    files = [path for pattern in data.annotations for path in matching(pattern)]
    if not files:
        raise InvalidValueError(
            f"data.annotations is {list(data.annotations)!r}; allowed: files that exist",
            param="data.annotations",
        )
    root = Path(data.root)
    return listed(_entries(data.format, files, root, work), data.max_caption, ", ".join(map(str, files[:3])))


def _entries(kind: str, files: Sequence[Path], root: Path, work: Path) -> Iterator[Entry]:
    if kind == "webdataset":
        yield from shard_entries(files, work / "shards.jsonl")
        return
    read = {"webvid": webvid_entries, "vindlu": vindlu_entries}[kind]
    for file in files:
        yield from read(file, root)


def webvid_entries(table: Path, root: Path) -> Iterator[Entry]:
    """WebVid's CSV in either column order: root / page_dir / videoid.mp4, captioned by `name`.

    Raises:
        InvalidValueError: no CSV with these columns.
    """
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if not set(_WEBVID) <= set(header):
            raise InvalidValueError(
                f"{table} has the columns {', '.join(header)}; allowed: a header with {', '.join(_WEBVID)}",
                param="data.annotations",
            )
        columns = [header.index(name) for name in _WEBVID]
        for row in rows:
            if len(row) > max(columns):
                number, folder, caption = (row[column] for column in columns)
                yield Source(str(root / folder / f"{number}.mp4")), (caption,)


def vindlu_entries(path: Path, root: Path) -> Iterator[Entry]:
    """VindLU's and UMT's JSON: a list of {"video": path, "caption": text or list of texts}.

    Raises:
        InvalidValueError: no such list.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            said = row["caption"]
            yield Source(str(root / row["video"])), (said,) if isinstance(said, str) else tuple(said)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(
            f'{path}: not a list of {{"video", "caption"}} ({type(error).__name__}: {error})',
            param="data.annotations",
        ) from error


_VIDEOS = ("mp4", "webm", "mkv", "avi")


def shard_entries(shards: Sequence[Path], index: Path) -> Iterator[Entry]:
    """The clips of all shards, in order; shards that changed since the index was written are read again.

    Raises:
        InvalidValueError: a file that is no tar.
    """
    known = _known(index)
    with index.open("a", encoding="utf-8") as file:
        for shard in shards:
            stat = shard.stat()
            mark = [str(shard), stat.st_size, stat.st_mtime_ns]
            clips: list[list[Any]] | None = known.get(json.dumps(mark))
            if clips is None:
                clips = list(map(list, _scan(shard)))
                file.write(json.dumps([mark, clips]) + "\n")
                file.flush()
            for start, length, caption in clips:
                yield Source(str(shard), start, length), (caption,)


def _known(index: Path) -> dict[str, list[list[Any]]]:
    """What an index says, by shard; a last line that was cut by a crash is left out, and cut off."""
    if not index.exists():
        index.parent.mkdir(parents=True, exist_ok=True)
        return {}
    lines = index.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        index.write_text("".join(whole), encoding="utf-8")
    return {json.dumps(mark): clips for mark, clips in map(json.loads, whole)}


def _scan(shard: Path) -> Iterator[tuple[int, int, str]]:
    """Place, length and caption of every clip in a shard."""
    videos: dict[str, tuple[int, int]] = {}
    captions: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")
                key = f"{folder}/{stem}"
                if member.isfile() and kind in _VIDEOS:
                    videos[key] = member.offset_data, member.size
                elif member.isfile() and kind in ("txt", "json"):
                    said = _caption(tar, member, kind)
                    captions[key] = said or captions.get(key, "")
    except tarfile.TarError as error:
        raise InvalidValueError(f"{shard}: not a tar file ({error})", param="data.annotations") from error
    for key, (start, length) in videos.items():
        yield start, length, captions.get(key, "")


def _caption(tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str) -> str:
    file = tar.extractfile(member)
    assert file is not None, "a plain file can be read"
    text = file.read().decode("utf-8", "replace")
    if kind == "txt":
        return text
    try:
        found = json.loads(text)
    except ValueError:
        return ""
    return str(found.get("caption") or "") if isinstance(found, dict) else ""
