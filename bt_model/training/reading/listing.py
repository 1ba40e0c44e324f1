"""Clips and their captions by number: millions of them, packed, since every rank holds the whole list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bt_model.errors import InvalidValueError

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
