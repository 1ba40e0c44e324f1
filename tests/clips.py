"""Real video files for tests, written with PyAV: small, odd, or broken on purpose.

Every frame has a red, a green and a blue corner; the fourth corner's grey level tells the frame's number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import OutputContainer
from av.stream import Disposition
from numpy.typing import NDArray

GREY_STEP = 7  # decoding moves a level by up to 2
FIRST_GREY = 20
MAX_NUMBERED = 33
HOSTILE = sorted((Path(__file__).parent / "data" / "hostile").glob("*.mp4"))  # abort decord's process
RED, GREEN, BLUE = (220, 30, 30), (30, 200, 30), (30, 30, 220)


@dataclass(frozen=True)
class ClipSpec:
    """How to write one clip. `stamps_ms` gives each frame its own time (variable rate), `slots` its slot."""

    num_frames: int = 30
    width: int = 96
    height: int = 64
    fps: int = 25
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"crf": "10"})
    rotation: float | None = None
    matrix: Sequence[int] | None = None
    stamps_ms: Sequence[int] | None = None
    slots: Sequence[int] | None = None
    audio: bool = False


def picture(number: int, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """(H, W, 3): red top left, green top right, blue bottom left, the number's grey bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    middle_y, middle_x = height // 2, width // 2
    pixels[:middle_y, :middle_x] = RED
    pixels[:middle_y, middle_x:] = GREEN
    pixels[middle_y:, :middle_x] = BLUE
    pixels[middle_y:, middle_x:] = FIRST_GREY + GREY_STEP * (number % MAX_NUMBERED)
    return pixels


def numbers_in(pixels: NDArray[np.uint8]) -> list[int]:
    """Frames (T, H, W, 3) -> the number in the bottom right corner of each."""
    height, width = pixels.shape[1:3]
    corner = pixels[:, height * 5 // 8 : height * 7 // 8, width * 5 // 8 : width * 7 // 8].astype(float)
    return [round((level - FIRST_GREY) / GREY_STEP) for level in corner.mean(axis=(1, 2, 3))]


def corners_of(pixels: NDArray[np.uint8]) -> str:
    """(H, W, 3) -> the corners' colours, top first, left first: letters R, G, B, and - for grey."""
    height, width = pixels.shape[:2]
    spots = [(y, x) for y in (height // 4, height * 3 // 4) for x in (width // 4, width * 3 // 4)]

    def letter(spot: NDArray[np.uint8]) -> str:
        spread = int(spot.max()) - int(spot.min())
        return "RGB"[int(spot.argmax())] if spread > 80 else "-"

    return "".join(letter(pixels[y, x]) for y, x in spots)


def write_clip(
    path: Path, spec: ClipSpec = ClipSpec(), container_options: dict[str, str] | None = None
) -> Path:
    """Encode one clip; the suffix chooses the container."""
    with av.open(str(path), "w", options=container_options or {}) as output:
        stream = output.add_stream(spec.codec, rate=spec.fps, options=dict(spec.options))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pix_fmt
        if spec.stamps_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if spec.rotation is not None:
            stream.set_display_rotation(spec.rotation)
        if spec.matrix is not None:
            stream.set_display_matrix(spec.matrix)
        if spec.audio:
            _write_silence(output, path)
        for i in range(spec.num_frames):
            rgb = av.VideoFrame.from_ndarray(picture(i, spec.width, spec.height), "rgb24")
            frame = rgb.reformat(format=spec.pix_fmt)
            stamps = spec.stamps_ms or spec.slots
            frame.pts = stamps[i] if stamps else i
            frame.time_base = Fraction(1, spec.fps) if spec.stamps_ms is None else Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def write_sound(path: Path) -> Path:
    """A file with an audio track only."""
    with av.open(str(path), "w") as output:
        _write_silence(output, path)
    return path


def write_cover(path: Path) -> Path:
    """Sound with a cover picture, which players list as a video stream."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mjpeg", rate=1)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        stream.disposition = Disposition.attached_pic
        _write_silence(output, path)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), "rgb24").reformat(format="yuvj420p")))
        output.mux(stream.encode(None))
    return path


def write_tracks(path: Path, default: int, num_videos: int = 2, num_sounds: int = 0) -> Path:
    """Tracks of video of one frame each, numbered, of which one is the default, and tracks of silence."""
    with av.open(str(path), "w") as output:
        streams = [output.add_stream("libx264", rate=25) for _ in range(num_videos)]
        for number, stream in enumerate(streams):
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            stream.disposition = Disposition.default if number == default else Disposition(0)
        sounds: list[tuple[av.AudioStream, av.AudioFrame]] = []
        for _ in range(num_sounds):
            sound = output.add_stream("pcm_s16le", rate=8000, layout="mono")
            assert isinstance(sound, av.AudioStream)
            sound.disposition = Disposition(0)
            silence = av.AudioFrame("s16", "mono", 80)
            silence.planes[0].update(bytes(silence.planes[0].buffer_size))
            silence.sample_rate, silence.pts = 8000, 0
            sounds.append((sound, silence))
        for sound, silence in sounds:
            output.mux([*sound.encode(silence), *sound.encode(None)])
        for number, stream in enumerate(streams):
            assert isinstance(stream, av.VideoStream)
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            output.mux([*stream.encode(frame), *stream.encode(None)])
    return path


def write_cut(path: Path, share: float, spec: ClipSpec = ClipSpec(), *, index_first: bool = False) -> Path:
    """The first part of a clip, with its index in front of the frames or lost with the end."""
    options = {"movflags": "faststart"} if index_first else {}
    whole = path.with_name(f"whole{path.suffix}")
    with av.open(str(whole), "w", options=options) as output:
        stream = output.add_stream(spec.codec, rate=spec.fps)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, spec.pix_fmt
        for i in range(spec.num_frames):
            output.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture(i, spec.width, spec.height), "rgb24"))
            )
        output.mux(stream.encode(None))
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def write_damaged(path: Path) -> Path:
    """Thirty packets, each a frame, of which ten in the middle are rubbish."""
    spec = ClipSpec(30, codec="ffv1", options={"slicecrc": "1", "g": "1"})
    source = write_clip(path.with_name("source.mkv"), spec)
    with av.open(str(source)) as read, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(p for p in read.demux(video=0) if p.size):
            stored = av.Packet(b"\xff" * 40) if 10 <= number < 20 else packet
            stamp, time_base = packet.pts, packet.time_base
            stored.stream, stored.time_base = stream, time_base
            stored.pts = stored.dts = stamp
            output.mux(stored)
    return path


def _write_silence(output: OutputContainer, path: Path) -> None:
    planar = path.suffix in (".mp4", ".mov")
    stream = output.add_stream("aac" if planar else "libopus", rate=48000, layout="mono")
    assert isinstance(stream, av.AudioStream)
    for i in range(20):
        frame = av.AudioFrame(format="fltp" if planar else "s16", layout="mono", samples=1024)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate, frame.pts = 48000, i * 1024
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))
