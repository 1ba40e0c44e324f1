"""Which frames a model sees of a video, as lines or for machines; the same of a file and of a server."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class FrameListing:
    """Indices and times of the frames, and what is known of their video; `write` makes a JPEG file of one."""

    video: str
    facts: Mapping[str, Any]
    sampling: Mapping[str, Any]
    warnings: Sequence[str]
    reader: str
    indices: Sequence[int]
    timestamps: Sequence[float]
    write: Callable[[int, Path], object]

    def lines(self, output: Path | None) -> Iterator[str]:
        """A line for the video and one for each frame, after it was written into the folder `output`."""
        facts = self.facts
        size = f"{facts['width']}x{facts['height']} {facts['codec']}"
        rate = f"{facts['num_frames']} frames at {facts['fps']:g} per second, {facts['seconds']:.2f} s"
        yield f"{self.video}: {size}, {rate}; the model sees {len(self.indices)} frames"
        for frame in self._frames(output):
            file = f"  {frame['file']}" if "file" in frame else ""
            yield f"frame {frame['index']:6d}  {frame['timestamp']:9.3f} s{file}"

    def as_json(self, output: Path | None) -> dict[str, Any]:
        """The same as one object."""
        return {
            "video": self.video,
            "num_frames": len(self.indices),
            "sampling": dict(self.sampling),
            "warnings": list(self.warnings),
            "reader": self.reader,
            "frames": list(self._frames(output)),
            "facts": dict(self.facts),
        }

    def warn(self) -> None:
        warn(self.warnings)

    def _frames(self, output: Path | None) -> Iterator[dict[str, Any]]:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
        for number, (index, seconds) in enumerate(zip(self.indices, self.timestamps, strict=True)):
            frame: dict[str, Any] = {"index": index, "timestamp": seconds}
            if output is not None:
                target = output / f"{number:03d}_frame{index:06d}.jpg"
                self.write(number, target)
                frame["file"] = str(target)
            yield frame


def warn(warnings: Iterable[str]) -> None:
    """What is wrong with a video goes to stderr, beside what was asked for."""
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")
