"""Videos with usual bitrates, B-frames and a key frame every ten seconds; made once, into .work."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FOLDER = Path(".work/video")
FPS = 25
_MARGIN = 512  # pixels that a picture may drift


@dataclass(frozen=True, slots=True)
class VideoFile:
    """`encoded` seconds are encoded, and repeated until there are `seconds`."""

    name: str
    width: int
    height: int
    seconds: int
    encoded: int
    bitrate: str
    preset: str = "medium"

    @property
    def path(self) -> Path:
        return FOLDER / f"{self.name.replace(' ', '-')}.mp4"

    def make(self) -> None:
        """Write it, unless it is there."""
        if self.path.exists():
            return
        FOLDER.mkdir(parents=True, exist_ok=True)
        part, whole = self.path.with_suffix(".part.mp4"), self.path.with_suffix(".whole.mp4")
        self._encode(part)
        _repeat(part, whole, self.seconds // self.encoded, self.encoded)
        part.unlink()
        whole.rename(self.path)

    def _encode(self, path: Path) -> None:
        options = {"preset": self.preset, "g": str(10 * FPS), "b": self.bitrate, "threads": "1"}
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=FPS, options=options)
            stream.width, stream.height, stream.pix_fmt = self.width, self.height, "yuv420p"
            for number, planes in enumerate(_pictures(self.width, self.height, self.encoded * FPS)):
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))


FILES = (
    VideoFile("60 s 720p", 1280, 720, 60, 20, "3500k"),
    VideoFile("10 min 720p", 1280, 720, 600, 20, "3500k"),
    VideoFile("2 h 360p", 640, 360, 7200, 60, "330k"),
    VideoFile("60 s 4K", 3840, 2160, 60, 6, "20M", "veryfast"),
)


def _pictures(width: int, height: int, count: int) -> Iterator[NDArray[np.uint8]]:
    """Planes of yuv420p (3 H / 2, W): textured ground before a hand-held camera, an object, noise."""
    rng = np.random.default_rng(0)
    shape = (height + _MARGIN // 2, width + _MARGIN)
    ground = 110 + sum(share * _clouds(rng, shape, size) for share, size in ((45, 64), (22, 16), (9, 4)))
    luma = np.clip(ground + rng.normal(0, 2, shape), 16, 235).astype(np.uint8)
    colour = np.clip(128 + 40 * _clouds(rng, (shape[0] // 2, shape[1] // 2), 48), 16, 240).astype(np.uint8)
    noise = [rng.normal(0, 3, (height, width)).round().astype(np.int8).view(np.uint8) for _ in range(8)]
    radius = height // 6
    for i in range(count):
        x, y = int(200 + 180 * np.sin(i / 40)), int(100 + 90 * np.sin(i / 55))
        bright = luma[y : y + height, x : x + width] + noise[i % len(noise)]
        across, down = int(width * (0.5 + np.sin(i / 30) / 3)), int(height * (0.5 + np.cos(i / 23) / 4))
        part = np.s_[max(down - radius, 0) : down + radius, max(across - radius, 0) : across + radius]
        bright[part] = 255 - bright[part]
        blue = colour[y // 2 : (y + height) // 2, x // 2 : (x + width) // 2][: height // 2, : width // 2]
        planes = np.concatenate([bright.ravel(), blue.ravel(), 255 - blue.ravel()])
        yield planes.reshape(height * 3 // 2, width)


def _clouds(rng: np.random.Generator, shape: tuple[int, int], size: int) -> NDArray[np.float64]:
    """Normal noise whose grains are so many pixels large."""
    small = rng.normal(0, 1, (shape[0] // size + 2, shape[1] // size + 2))
    for axis in (0, 1):
        places = np.arange(shape[axis]) / size
        before = places.astype(int)
        ahead = np.expand_dims(places - before, 1 - axis)
        small = small.take(before, axis) * (1 - ahead) + small.take(before + 1, axis) * ahead
    return small


def _repeat(part: Path, whole: Path, times: int, seconds: int) -> None:
    with av.open(str(part)) as read_from, av.open(str(whole), "w") as file:
        source = read_from.streams.video[0]
        stream = file.add_stream_from_template(source)
        packets = [packet for packet in read_from.demux(source) if packet.size]
        kept = [(bytes(p), p.pts or 0, p.dts or 0, p.duration, p.is_keyframe) for p in packets]
        for begin in (round(seconds * i / (source.time_base or 1)) for i in range(times)):
            for data, pts, dts, duration, is_key in kept:
                packet = av.Packet(data)
                packet.stream, packet.time_base = stream, source.time_base or Fraction(1)
                packet.pts, packet.dts, packet.duration = begin + pts, begin + dts, duration
                packet.is_keyframe = is_key
                file.mux(packet)
