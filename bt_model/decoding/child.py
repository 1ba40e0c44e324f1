"""A decode child: `python -m bt_model.decoding.child`, with its end of the socket pair as standard input.

It opens no path: each request passes the video as an open descriptor. It is replaced after a few files.
"""

import fcntl
import io
import mmap
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from math import isqrt
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bt_model.decoding import wire
from bt_model.decoding.sandbox import ChildLimits, allow_cpu, restrict
from bt_model.errors import BtchatError, VideoLimitError
from bt_model.types import Frames, ReaderName
from bt_model.video import decord_reader, index, picture_reader, refusals
from bt_model.video.attempt import Attempt, OutOfTimeError
from bt_model.video.decode import DEFAULT_LIMITS, Wanted, decode_clip, plan, scan
from bt_model.video.opening import demuxed
from bt_model.video.packets import Clip
from bt_model.video.refusals import DecodeLimits

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_JPEG_QUALITY = 85
_SHARE = 0.9  # of the time that a parent gives its child
_COUNT_SECONDS = 0.25  # between two counts of frames

Send = Callable[[bytes], object]


def main() -> None:
    """Set up, then handle requests until the parent closes the socket."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # it ends with its parent's socket:
        signal.signal(number, signal.SIG_IGN)  # a service manager that signals all processes means the parent
    with socket.socket(fileno=0) as connection:
        setup = wire.Setup.unpack(_receive(connection)[0])
        ready = _prepared(setup)
        connection.sendall(ready.pack())
        while True:
            payload, fds = _receive(connection)
            if not payload:
                return
            allow_cpu(setup.child_limits.seconds)
            connection.sendall(_answer(setup, wire.Request.unpack(payload), fds, connection.sendall))


def _prepared(setup: wire.Setup) -> wire.ChildReport:
    """Import what is otherwise imported when it is needed, then give up everything else."""
    picture_reader.prepare()
    import_module("av.subtitles.stream")
    ffmpeg = {"pyav": str(av.ffmpeg_version_info)}
    is_decord = setup.reader == "decord"
    if is_decord:
        ffmpeg["decord"] = decord_reader.ffmpeg_version()
    return wire.ChildReport(restrict(setup.child_limits, setup.parent, has_threads=is_decord), ffmpeg)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One message and its descriptors; empty if the parent has closed the socket."""
    header, fds, _, _ = socket.recv_fds(connection, wire.HEADER.size, wire.MAX_FDS)
    if len(header) < wire.HEADER.size:
        return b"", fds
    (num_bytes,) = wire.HEADER.unpack(header)
    return connection.recv(num_bytes, socket.MSG_WAITALL), fds


def _answer(setup: wire.Setup, request: wire.Request, fds: Sequence[int], send: Send) -> bytes:
    """The packed reply to one request; closes its descriptors."""
    try:
        return _work(setup, request, fds, send).pack()
    except BtchatError as error:
        return wire.Refusal(error).pack()
    except MemoryError:
        error = VideoLimitError("the video needs more memory than a decoder may use")
        return wire.Refusal(error, is_clean=False).pack()
    except Exception:  # noqa: BLE001 - the process edge: any error of a hostile file means a bad video
        return wire.Refusal(refusals.undecodable(), is_clean=False).pack()
    finally:
        for fd in fds:
            os.close(fd)


def _work(
    setup: wire.Setup, request: wire.Request, fds: Sequence[int], send: Send
) -> wire.Reply | wire.Refusal:
    num_sizes = len(request.sizes)
    memories, kept = fds[1 : 1 + num_sizes], fds[1 + num_sizes :]
    clock = _Clock(setup.child_limits, send)
    reader: ReaderName = "pyav" if request.is_second_try else setup.reader
    limits, begin = setup.limits, demuxed.total
    with open(fds[0], "rb", buffering=0, closefd=False) as whole:
        file = _part(whole, request)
        known = index.unpack(request.index, file, limits) if request.index else None
        clip, by_size = (before := known or scan(file, limits)), list[Frames]()
        middle = demuxed.total
        if request.job in ("frames", "thumbnails"):
            done = [_mapped(memory, request.done) for memory in kept]
            attempt = Attempt(clock.allowed, done, clock.count)
            try:
                clip, by_size = _read(file, clip, request, reader, limits, attempt)
            except OutOfTimeError as error:
                return _partly(error, request, memories, clock.seconds)
        is_news = request.index is not None and clip is not known
        news = index.pack(clip, file) if is_news else b""
        news = news if len(news) <= wire.MAX_INDEX_BYTES else b""  # it is scanned each time
    counts = wire.Demuxed(middle - begin, demuxed.total - middle)
    reply = wire.Reply(clip.facts, index=news, demuxed=counts, is_recounted=clip is not before)
    if not by_size:
        return _planned(reply, clip, request, setup) if request.job == "plan" else reply
    frames = by_size[0]
    reply = replace(
        reply,
        indices=frames.indices,
        timestamps=frames.timestamps,
        num_wanted=frames.num_wanted,
        reader=frames.reader,
    )
    if request.job == "thumbnails":
        return replace(reply, jpegs=_jpegs(frames))
    for each, size, memory in zip(by_size, request.sizes, memories, strict=True):
        _hand_over(each.pixels, memory, request.max_bytes(size))
    return reply


def _planned(reply: wire.Reply, clip: Clip, request: wire.Request, setup: wire.Setup) -> wire.Reply:
    """The frames that a decode would give, and what it would take, without one."""
    found = plan(clip, Wanted(request.sampling, request.sizes, request.default_frames), setup.limits)
    indices = found.choice.indices
    return replace(
        reply,
        indices=indices,
        timestamps=tuple(clip.times[i] for i in indices),
        num_wanted=found.choice.num_wanted,
        num_pixels=found.num_pixels,
        allowed_seconds=float(setup.child_limits.allowed(found.num_pixels)),
    )


class _Clock:
    """The time for one file, which follows from the work that its parent is told of, and its progress."""

    def __init__(self, limits: ChildLimits, send: Send) -> None:
        self._limits, self._send = limits, send
        self.seconds = limits.seconds
        self._counted_at = time.monotonic()

    def count(self, num_frames: int, num_wanted: int) -> None:
        """Tell how many frames there are, a few times a second; of a short decode nothing."""
        if (now := time.monotonic()) - self._counted_at >= _COUNT_SECONDS:
            self._counted_at = now
            self._send(wire.Count(num_frames, num_wanted).pack())

    def allowed(self, num_pixels: int) -> float:
        """Seconds until it is to hand over what it has, before its parent ends it."""
        self._send(wire.Workload(num_pixels).pack())
        self.seconds = self._limits.allowed(num_pixels)
        allow_cpu(self.seconds)
        return _SHARE * self.seconds


def _partly(
    error: OutOfTimeError, request: wire.Request, memories: Sequence[int], seconds: float
) -> wire.Refusal:
    """Hand over what there is, if it is anything that the same request may go on from."""
    indices = tuple(sorted(error.found[0]))
    if len(indices) <= len(request.done) or request.cutout is not None:
        return wire.Refusal(refusals.too_slow(seconds))
    for found, size, memory in zip(error.found, request.sizes, memories, strict=True):
        _hand_over(np.stack([found[i] for i in indices]), memory, request.max_bytes(size))
    return wire.Refusal(refusals.partly_decoded(indices, error.num_frames, seconds))


def _mapped(memory: int, indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """The frames of a memory file, all of one square size."""
    data = os.pread(memory, os.lseek(memory, 0, os.SEEK_END), 0)  # the sandbox denies what os.fstat calls
    side = isqrt(len(data) // (3 * len(indices)))
    frames = np.frombuffer(data, np.uint8).reshape(len(indices), side, side, 3)
    return dict(zip(indices, frames, strict=True))


def read_frames(
    file: BinaryIO,
    request: wire.Request,
    reader: ReaderName = "pyav",
    limits: DecodeLimits = DEFAULT_LIMITS,
) -> list[Frames]:
    """The frames that a request asks for, in each of its sizes. Raises as `decode`."""
    file = _part(file, request)
    return _read(file, scan(file, limits), request, reader, limits)[1]


def _part(file: BinaryIO, request: wire.Request) -> BinaryIO:
    return io.BytesIO(os.pread(file.fileno(), request.length, request.start)) if request.length else file


def _read(
    file: BinaryIO,
    clip: Clip,
    request: wire.Request,
    reader: ReaderName,
    limits: DecodeLimits,
    attempt: Attempt | None = None,
) -> tuple[Clip, list[Frames]]:
    wanted = Wanted(request.sampling, request.sizes, request.default_frames, request.single)
    found, by_size = decode_clip(file, clip, wanted, reader, limits, attempt)
    if (cutout := request.cutout) is None:
        return found, by_size
    return found, [replace(frames, pixels=cutout(frames.pixels)) for frames in by_size]


def _hand_over(pixels: NDArray[np.uint8], memory: int, num_bytes: int) -> None:
    """Fill the parent's memory file, mapped because the file size limit of 0 forbids writes, and seal it."""
    with mmap.mmap(memory, num_bytes) as room:
        room[: pixels.nbytes] = pixels.tobytes()
    os.ftruncate(memory, pixels.nbytes)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)


def _jpegs(frames: Frames) -> tuple[bytes, ...]:
    """Exactly these frames, as JPEG."""

    def encoded(pixels: NDArray[np.uint8]) -> bytes:
        data = io.BytesIO()
        Image.fromarray(pixels).save(data, "JPEG", quality=_JPEG_QUALITY)
        return data.getvalue()

    return tuple(encoded(pixels) for pixels in frames.pixels)


if __name__ == "__main__":
    main()
