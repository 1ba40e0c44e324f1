"""Why a WebSocket is closed, as the number that its client sees."""

from collections.abc import Mapping

DONE = 1000
POLICY = 1008
FAILED = 1011
RESTARTED = 1012
TRY_AGAIN = 1013
_OF_STATUS: Mapping[int, int] = {401: 4401, 403: 4403, 421: 4403, 429: 4429, 500: FAILED, 503: TRY_AGAIN}


def close_code(status: int) -> int:
    """That of an error which has this status in an HTTP response."""
    return _OF_STATUS.get(status, POLICY)
