"""Batches in the order of their steps, decoded ahead in the background; broken clips are skipped.

A batch depends on its step alone, so a resumed run reads the same batches. Broken clips are listed in files,
so that a resumed run does not try them again.
"""

import json
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from queue import Full, Queue
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

import torch

from bt_model.decoding.pool import DecodePool
from bt_model.decoding.sandbox import ChildLimits
from bt_model.decoding.wire import Request
from bt_model.errors import BtchatError, EngineError, TrainingError
from bt_model.training.data.clip_list import ClipList
from bt_model.training.data.sampling import SampleOrder

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bt_model.training.settings import DataSettings


class ClipReader(Protocol):
    """What reads clips in the background, while its `with` lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object: ...

    def read(self, path: Path, request: Request) -> "Future[NDArray[Any]]": ...


def decode_pool(data: "DataSettings") -> DecodePool:
    """Children that decode as a data section says; they may use more than those that see strangers' files."""
    limits = ChildLimits(address_space=6 * 1024**3, files=1000)
    return DecodePool(data.workers, reader=data.reader, seconds=data.seconds, child_limits=limits)


def why_broken(error: BaseException) -> str:
    """Why a clip cannot be read, to be noted; raises what is no clip's fault, but the children's."""
    if isinstance(error, EngineError):
        raise error
    reason = error.message if isinstance(error, BtchatError) else f"{type(error).__name__}: {error}"
    return f"{reason} ({error.__cause__})" if error.__cause__ else reason


_SHOWN = 3  # broken clips in a message


class BrokenClips:
    """Broken clips by source, with the reason: those on any rank's list at the start, and this rank's own."""

    def __init__(self, work: Path, rank: int) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self._own = work / f"broken-{rank}.jsonl"
        self.reasons: dict[str, str] = {}
        for path in sorted(work.glob("broken-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):  # a crash may have cut the last one
                    source, why = json.loads(line)
                    self.reasons[source] = why

    def add(self, source: str, why: str) -> None:
        """Append one to the file; it may have been tried for several samples."""
        if source in self.reasons:
            return
        self.reasons[source] = why
        with self._own.open("a", encoding="utf-8") as file:
            file.write(json.dumps([source, why]) + "\n")

    def __str__(self) -> str:
        last = [*self.reasons.items()][-_SHOWN:]
        return "; ".join(f"{source.split(':', 2)[2]}: {why}" for source, why in last)


_MAX_ATTEMPTS = 50  # clips in a row for one sample
_PAUSE = 0.05  # seconds
Key = tuple[int, int]  # step and part


class LoadedBatch(Protocol):
    """What a step is computed from: some clips, after `num_skipped` that could not be read."""

    @property
    def num_skipped(self) -> int: ...

    def __len__(self) -> int: ...

    def to(self, device: torch.device) -> Self: ...


B = TypeVar("B", bound=LoadedBatch)
B_co = TypeVar("B_co", bound=LoadedBatch, covariant=True)


class Recipe(Protocol[B_co]):
    """What a stage makes out of a list of clips: what is asked of the reader for each, and the batches."""

    @property
    def data(self) -> "DataSettings": ...

    @property
    def order(self) -> SampleOrder: ...

    def clip_reader(self) -> ClipReader: ...

    def request(self, clips: ClipList, sample: int, clip: int) -> Request: ...

    def batch(
        self,
        clips: ClipList,
        samples: range,
        chosen: list[int],
        pixels: "list[NDArray[Any]]",
        num_skipped: int,
    ) -> B_co: ...


@dataclass(slots=True)
class _Slot:
    """One sample of a batch: its sample index, the clip that is tried for it, and its decoded pixels."""

    sample: int
    clip: int
    attempts: int = 0
    pixels: "NDArray[Any] | None" = None


@dataclass(slots=True)
class _Open:
    key: Key
    samples: range
    slots: list[_Slot]

    @property
    def is_complete(self) -> bool:
        return all(slot.pixels is not None for slot in self.slots)


class ClipFeed(threading.Thread, Generic[B]):
    """Puts (key, batch) into the queue `batches` for each key, or the error that ended the thread."""

    def __init__(self, clips: ClipList, recipe: Recipe[B], broken: BrokenClips, keys: Iterator[Key]) -> None:
        super().__init__(daemon=True, name="clips")
        self._clips, self._recipe, self._broken, self._keys = clips, recipe, broken, keys
        self._open: deque[_Open] = deque()
        self._pending: deque[_Slot] = deque()
        self._sent: dict[Future[NDArray[Any]], _Slot] = {}
        self._stopped = threading.Event()
        self.batches: Queue[tuple[Key, B] | BaseException] = Queue(maxsize=1)

    def stop(self) -> None:
        """End the thread and its children, and wait until they have ended."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """The thread's own work."""
        try:
            with self._recipe.clip_reader() as reader:
                while not self._stopped.is_set():
                    self._turn(reader)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for batches
            while not self._stopped.is_set() and not self._put(error):
                self._stopped.wait(_PAUSE)

    def _turn(self, reader: ClipReader) -> None:
        """One round: open batches, send requests, take replies, deliver complete batches."""
        while len(self._open) < self._recipe.data.prefetch and (key := next(self._keys, None)) is not None:
            self._begin(key)
        while self._pending and len(self._sent) < self._recipe.data.workers:
            slot = self._pending.popleft()
            path = Path(self._clips.source(slot.clip).path)
            request = self._recipe.request(self._clips, slot.sample, slot.clip)
            self._sent[reader.read(path, request)] = slot
        if not self._sent:
            self._stopped.wait(_PAUSE)
        for reply in wait(self._sent, _PAUSE, FIRST_COMPLETED).done:
            self._take(self._sent.pop(reply), reply)
        while self._open and self._open[0].is_complete and self._put(self._finished(self._open[0])):
            self._open.popleft()

    def _put(self, item: tuple[Key, B] | BaseException) -> bool:
        try:
            self.batches.put_nowait(item)
        except Full:
            return False
        return True

    def _begin(self, key: Key) -> None:
        samples = self._recipe.order.samples(*key)
        slots = [_Slot(sample, self._recipe.order.clip(sample)) for sample in samples]
        for slot in slots:
            self._skip_known(slot)
        self._open.append(_Open(key, samples, slots))
        self._pending.extend(slots)

    def _take(self, slot: _Slot, reply: "Future[NDArray[Any]]") -> None:
        error = reply.exception()
        if error is None:
            slot.pixels = reply.result()
            return
        self._broken.add(self._clips.sources[slot.clip], why_broken(error))
        self._skip_known(slot)
        self._pending.appendleft(slot)

    def _skip_known(self, slot: _Slot) -> None:
        """The next clip for this sample that is not known to be broken."""
        while self._clips.sources[slot.clip] in self._broken.reasons:
            slot.attempts += 1
            if slot.attempts > _MAX_ATTEMPTS:
                raise TrainingError(
                    f"{_MAX_ATTEMPTS} clips in a row cannot be read; the last: {self._broken}"
                )
            slot.clip = self._recipe.order.clip(slot.sample, slot.attempts)

    def _finished(self, batch: _Open) -> tuple[Key, B]:
        pixels = [slot.pixels for slot in batch.slots if slot.pixels is not None]
        chosen, skipped = [slot.clip for slot in batch.slots], sum(slot.attempts for slot in batch.slots)
        return batch.key, self._recipe.batch(self._clips, batch.samples, chosen, pixels, skipped)


JUDGED_AFTER = 200  # clips after which the share of broken ones is checked


class ClipLoader(Generic[B]):
    """The batches of this rank; must be requested in the order of steps and parts, from any step on."""

    def __init__(self, clips: ClipList, recipe: Recipe[B], num_steps: int, work: Path) -> None:
        self._clips = clips
        self._recipe = recipe
        self._num_steps = num_steps
        self._broken = BrokenClips(work, recipe.order.rank)
        self._feed: ClipFeed[B] | None = None
        self._next: Key | None = None
        self._tried = self._failed = 0

    @property
    def steps_per_epoch(self) -> int:
        return self._recipe.order.steps_per_epoch

    def batch(self, step: int, part: int = 0) -> B:
        """The batch of a part of a step; blocks until it is decoded.

        Raises:
            TrainingError: too many clips cannot be read.
            EngineError: the decode children do not start.
        """
        if self._feed is None or (step, part) != self._next:
            self.close()
            self._feed = ClipFeed(self._clips, self._recipe, self._broken, self._keys(step, part))
            self._feed.start()
        got = self._feed.batches.get()
        if isinstance(got, BaseException):
            raise got
        key, batch = got
        assert key == (step, part), "batches come in order"
        self._next = (step, part + 1) if part + 1 < self._recipe.order.accumulate else (step + 1, 0)
        self._judge(batch)
        return batch

    def _keys(self, step: int, part: int) -> Iterator[Key]:
        """Steps and parts from this one to the end of the run."""
        parts = self._recipe.order.accumulate
        yield from ((step, later) for later in range(part, parts))
        for later in range(step + 1, self._num_steps):
            yield from ((later, each) for each in range(parts))

    def _judge(self, batch: B) -> None:
        self._tried += self._recipe.order.clips_per_part + batch.num_skipped
        self._failed += batch.num_skipped
        share, limit = self._failed / self._tried, self._recipe.data.max_broken
        if self._tried >= JUDGED_AFTER and share > limit:
            raise TrainingError(
                f"{self._failed} of {self._tried} clips cannot be read, {share:.1%}; data.max_broken allows "
                f"{limit:.1%}; raise it, or take them out of data.annotations (--dry-run counts those "
                f"without a file); the last: {self._broken}"
            )

    def close(self) -> None:
        """End the children. Idempotent."""
        if self._feed is not None:
            self._feed.stop()
            self._feed = None
