"""h11's reading of what has come, in turns that end."""

import h11

_EVENTS_A_TURN = 64  # about 0.2 ms; in chunks of 4 KB as much as is read at once


class ParserInTurns(h11.Connection):
    """After so many events there is no more in this turn, however much has been read.

    What has been read at once may be 42,000 chunks of a byte each, a tenth of a second of the event loop.
    """

    def __init__(self, max_header_bytes: int) -> None:
        super().__init__(h11.SERVER, max_header_bytes)
        self._num_left = _EVENTS_A_TURN
        self.fault: h11.RemoteProtocolError | None = None
        """Why what has come is not HTTP/1.1: uvicorn, which would log it, is told that there is no more."""

    @property
    def is_behind(self) -> bool:
        """Whether the last turn ended before what has come did."""
        return not self._num_left

    def begin_turn(self) -> None:
        self._num_left = _EVENTS_A_TURN

    def end_turn(self) -> None:
        self._num_left = 0

    def next_event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        if self.is_behind:
            return h11.NEED_DATA
        self._num_left -= 1
        try:
            return super().next_event()
        except h11.RemoteProtocolError as error:
            self.fault = error
            return h11.NEED_DATA
