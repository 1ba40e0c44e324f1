"""WebDataset tar shards with an index of each clip's offset, for random access.

A sample's members share the name before the first dot of their last path part: mp4, with txt or json. Where
every clip lies is found once and written down as one JSON line a shard. Nothing is unpacked, so a member's
name reaches no file.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bt_model.errors import InvalidValueError

_VIDEOS = ("mp4", "webm", "mkv", "avi")


@dataclass(frozen=True, slots=True)
class ShardClip:
    """A clip with its caption: `length` bytes of a shard, from `start` on."""

    shard: Path
    start: int
    length: int
    caption: str


def shard_clips(shards: Sequence[Path], index: Path) -> Iterator[ShardClip]:
    """The clips of all shards, in order; shards that changed since they were indexed are read again.

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
                clips = [[clip.start, clip.length, clip.caption] for clip in _scan(shard)]
                file.write(json.dumps([mark, clips]) + "\n")
                file.flush()
            for start, length, caption in clips:
                yield ShardClip(shard, start, length, caption)


def _known(index: Path) -> dict[str, list[list[Any]]]:
    """An index by shard; a last line that a crash cut short is removed from the file."""
    if not index.exists():
        index.parent.mkdir(parents=True, exist_ok=True)
        return {}
    lines = index.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    if len(whole) < len(lines):
        index.write_text("".join(whole), encoding="utf-8")
    return {json.dumps(mark): clips for mark, clips in map(json.loads, whole)}


def _scan(shard: Path) -> Iterator[ShardClip]:
    """Every clip of a shard."""
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
        yield ShardClip(shard, start, length, captions.get(key, ""))


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
