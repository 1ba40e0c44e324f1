"""Whether this process can still answer; one that cannot ends, and the web process starts another."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from server.worker.loaded import LoadedModel
    from server.worker.thread import WorkThread


def find_fault(
    models: "Iterable[LoadedModel]", threads: "Iterable[WorkThread]", max_seconds: float
) -> str | None:
    """What is wrong: a thread that has ended, or one that has been at one step or clip for too long."""
    for model in models:
        stats = model.engine.stats()
        if not stats.alive:
            return f"the generation thread of {model.name} is gone"
        if stats.busy_seconds > max_seconds:
            return f"one step of {model.name} has taken {stats.busy_seconds:.0f} seconds"
    for thread in threads:
        if not thread.is_alive:
            return f"the {thread.name} thread is gone"
        if thread.busy_seconds > max_seconds:
            return f"the {thread.name} thread has been at one thing for {thread.busy_seconds:.0f} seconds"
    return None
