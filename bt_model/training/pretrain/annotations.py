"""Annotation files to clips with captions: WebVid's table, VindLU's list (training spec 1.4)."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_model.errors import InvalidValueError
from bt_model.training.pretrain.shards import shard_entries
from bt_model.training.reading.listing import ClipList, Entry, Source, listed, matching

if TYPE_CHECKING:
    from bt_model.training.pretrain.config import DataSettings

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
