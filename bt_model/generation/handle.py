"""Events of a submitted request, for one who streams them from another thread."""

from collections.abc import Callable, Iterator
from queue import SimpleQueue

from bt_model.generation.request import Event, Finish


class QueuedHandle:
    """A submitted request whose events are queued for its one consumer."""

    def __init__(self, request_id: str, cancel: Callable[[str], None]) -> None:
        self._id = request_id
        self._cancel = cancel
        self._events: SimpleQueue[Event] = SimpleQueue()

    @property
    def id(self) -> str:
        return self._id

    def put(self, event: Event) -> None:
        """The sink of a request that was submitted without one."""
        self._events.put(event)

    def stream(self) -> "EventStream":
        """Deltas, then exactly one Finish; blocks until the next event. Can be read once."""
        return EventStream(self._events, lambda: self._cancel(self._id))


class EventStream(Iterator[Event]):
    """An iterator that cancels its request when it is closed or dropped before the end.

    Not a generator: closing a generator that was never started does not run its `finally`.
    """

    def __init__(self, events: SimpleQueue[Event], cancel: Callable[[], None]) -> None:
        self._events = events
        self._cancel = cancel
        self._is_over = False

    def __next__(self) -> Event:
        if self._is_over:
            raise StopIteration
        event = self._events.get()
        self._is_over = isinstance(event, Finish)
        return event

    def close(self) -> None:
        """Cancel the request unless it has finished; nothing more is delivered."""
        if not self._is_over:
            self._is_over = True
            self._cancel()

    def __del__(self) -> None:
        self.close()
