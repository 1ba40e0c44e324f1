"""A decode child: `python -m bt_model.decoding.child`, with its end of the socket pair as standard input.

It opens no path: each request passes the video as an open descriptor. It is replaced after a few files.
"""

import fcntl
import io
import mmap
import os
import signal
import socket
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bt_model.decoding import wire
from bt_model.decoding.sandbox import allow_cpu, restrict
from bt_model.errors import BtchatError, VideoLimitError
from bt_model.types import Frames, ReaderName
from bt_model.video import decord_reader, picture_reader, refusals
from bt_model.video.decode import DEFAULT_LIMITS, decode_sizes, probe
from bt_model.video.refusals import DecodeLimits

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
_JPEG_QUALITY = 85


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
            allow_cpu(setup.child_limits)
            connection.sendall(_answer(setup, wire.Request.unpack(payload), fds))


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


def _answer(setup: wire.Setup, request: wire.Request, fds: Sequence[int]) -> bytes:
    """The packed reply to one request; closes its descriptors."""
    try:
        return _work(setup, request, fds).pack()
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


def _work(setup: wire.Setup, request: wire.Request, fds: Sequence[int]) -> wire.Reply:
    with open(fds[0], "rb", buffering=0, closefd=False) as file:
        if request.job == "probe":
            return wire.Reply(probe(file, setup.limits))
        by_size = read_frames(file, request, setup.reader, setup.limits)
    frames = by_size[0]
    reply = wire.Reply(frames.facts, frames.indices, frames.timestamps, frames.num_wanted)
    if request.job == "frames":
        for each, size, memory in zip(by_size, request.sizes, fds[1:], strict=True):
            _hand_over(each.pixels, memory, request.max_bytes(size))
        return reply
    return replace(reply, jpegs=_jpegs(frames, request.thumbnail_side))


def read_frames(
    file: BinaryIO, request: wire.Request, reader: ReaderName = "pyav", limits: DecodeLimits = DEFAULT_LIMITS
) -> list[Frames]:
    """The frames that a request asks for, in each of its sizes. Raises as `decode`."""
    if request.length:
        file = io.BytesIO(os.pread(file.fileno(), request.length, request.start))
    known = request.known_frames
    by_size = decode_sizes(
        file, request.sampling, request.sizes, request.default_frames, reader, limits, known
    )
    if request.cutout is None:
        return by_size
    return [replace(frames, pixels=request.cutout(frames.pixels)) for frames in by_size]


def _hand_over(pixels: NDArray[np.uint8], memory: int, num_bytes: int) -> None:
    """Fill the parent's memory file, mapped because the file size limit of 0 forbids writes, and seal it."""
    with mmap.mmap(memory, num_bytes) as room:
        room[: pixels.nbytes] = pixels.tobytes()
    os.ftruncate(memory, pixels.nbytes)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)


def _jpegs(frames: Frames, side: int) -> tuple[bytes, ...]:
    """Exactly the model's input frames, as JPEG."""

    def encoded(pixels: NDArray[np.uint8]) -> bytes:
        image, data = Image.fromarray(pixels), io.BytesIO()
        if side:
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        image.save(data, "JPEG", quality=_JPEG_QUALITY)
        return data.getvalue()

    return tuple(encoded(pixels) for pixels in frames.pixels)


if __name__ == "__main__":
    main()
