"""Batches in the order of their steps, decoded ahead by children in the background.

Everything about a batch is decided by its step, so a resumed run sees the same ones.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Generic

from bt_model.errors import TrainingError
from bt_model.training.reading.broken import BrokenClips
from bt_model.training.reading.feed import B, ClipFeed, Key, Recipe
from bt_model.training.reading.listing import ClipList

JUDGED_AFTER = 200  # clips; before that, a few broken ones say nothing about the rest


class ClipLoader(Generic[B]):
    """The batches of this rank; ask for them in the order of steps and parts, from any step on."""

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
        """Waits until it is decoded.

        Raises:
            TrainingError: too many clips cannot be read, or the decode children do not start.
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
        """From a part of a step on, to the end of the run."""
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
                f"{limit:.1%}; the last: {self._broken}"
            )

    def close(self) -> None:
        """End the children. Idempotent."""
        if self._feed is not None:
            self._feed.stop()
            self._feed = None
