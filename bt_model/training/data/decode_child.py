"""A decode child of training: one clip after the other, until the parent hangs up. No torch in here.

Requests are JSON; a reply is JSON and, where the clip could be read, its pixels. A child that is slow or
dead is replaced (decode_pool.py), so that no clip can end a run.
"""

import ctypes
import io
import json
import os
import resource
import signal
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bt_model.errors import BtchatError
from bt_model.training.data.sampling import Crop, centre_box, cut, random_box
from bt_model.types import Fit, FrameSize, Sampling, Strategy
from bt_model.video.decode import ReaderName, decode

READY = b"ready"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_ADDRESS_SPACE = 6 << 30


@dataclass(frozen=True, slots=True)
class Request:
    """One clip to read: which frames, which part of them, and how large.

    With `box_seed` frames are drawn in their T stretches and the box anywhere, else both are central: the box
    after scaling as `fit` says, the frames by `strategy`.
    """

    path: str
    start: int
    length: int
    num_frames: int
    side: int
    short_side: int
    reader: ReaderName = "pyav"
    frame_seed: int = 0
    box_seed: int | None = None
    crop: Crop = field(default_factory=Crop)
    strategy: Strategy = "retrieval"
    fit: Fit | Literal["whole"] = "whole"

    def pack(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def unpack(cls, data: bytes) -> "Request":
        values: dict[str, Any] = json.loads(data)
        crop = Crop(**values.pop("crop"))
        return cls(**values, crop=crop)


def read_clip(request: Request) -> NDArray[np.uint8]:
    """The clip that a request is about, (T, side, side, 3).

    Raises:
        BtchatError: it cannot be read, whatever the reason.
    """
    strategy = request.strategy if request.box_seed is None else "random"
    sampling = Sampling(num_frames=request.num_frames, strategy=strategy, seed=request.frame_seed)
    size = FrameSize(request.short_side, request.fit)
    pixels = decode(_source(request), sampling, size, request.num_frames, request.reader).pixels
    height, width = pixels.shape[1:3]
    if request.box_seed is None:
        box = centre_box(height, width, request.side)
    else:
        box = random_box(Random(request.box_seed), height, width, request.crop)
    return cut(pixels, box, request.side)


def _source(request: Request) -> Path | io.BytesIO:
    if not request.length:
        return Path(request.path)
    with Path(request.path).open("rb") as file:
        return io.BytesIO(os.pread(file.fileno(), request.length, request.start))


def serve(descriptor: int, parent: int) -> None:
    """Answer requests from a socket until it is closed; die with the parent."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        return
    with Connection(descriptor) as connection:
        connection.send_bytes(READY)
        while True:
            try:
                request = Request.unpack(connection.recv_bytes())
            except EOFError:
                return
            _answer(connection, request)


def _answer(connection: Connection, request: Request) -> None:
    try:
        pixels = read_clip(request)
    except BtchatError as error:
        connection.send_bytes(json.dumps({"why": error.message}).encode())
    except Exception as error:  # noqa: BLE001 - the process edge: whatever a file provokes is a broken clip
        connection.send_bytes(json.dumps({"why": f"{type(error).__name__}: {error}"}).encode())
    else:
        connection.send_bytes(json.dumps({"shape": pixels.shape}).encode())
        connection.send_bytes(pixels.tobytes())
