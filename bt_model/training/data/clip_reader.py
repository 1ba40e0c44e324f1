"""What reads clips in the background, and why one cannot be read."""

import math
import os
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from bt_model.decoding.pool import DecodePool
from bt_model.decoding.sandbox import ChildLimits
from bt_model.decoding.wire import Request
from bt_model.errors import BtchatError, EngineError
from bt_model.types import ReaderName

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Reading(Protocol):
    """How clips are read: `workers` at a time, batches ahead, and the share of clips that may be broken."""

    @property
    def reader(self) -> ReaderName: ...

    @property
    def workers(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def prefetch(self) -> int: ...

    @property
    def max_broken(self) -> float: ...


class ClipReader(Protocol):
    """What reads clips in the background, while its `with` lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...

    def read(self, path: Path, request: Request) -> "Future[NDArray[Any]]": ...


def decode_pool(data: Reading) -> DecodePool:
    """Children that decode as a data section says; they may use more than those that see strangers' files."""
    limits = ChildLimits(
        cpu_seconds=math.ceil(data.seconds) * (os.cpu_count() or 1), address_space=6 * 1024**3, files=1000
    )
    return DecodePool(data.workers, reader=data.reader, seconds=data.seconds, child_limits=limits)


def why_broken(error: BaseException) -> str:
    """Why a clip cannot be read, to be noted; raises what is no clip's fault, but the children's."""
    if isinstance(error, EngineError):
        raise error
    reason = error.message if isinstance(error, BtchatError) else f"{type(error).__name__}: {error}"
    return f"{reason} ({error.__cause__})" if error.__cause__ else reason
