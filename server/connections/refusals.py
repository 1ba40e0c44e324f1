"""What was refused before there was a request: counted, and told in the log without filling it."""

import logging
from math import inf
from time import monotonic

from server.log.request import Facts
from server.metrics import Metrics
from server.problems import Problem

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0


class Refusals:
    """Each is counted. A line is written at most once in a second, and says for how many it stands.

    Nobody needs a key, or ends a request, to be refused like this a thousand times in a second.
    """

    def __init__(self) -> None:
        self._num_untold = 0
        self._told_at = -inf

    def count(self, metrics: Metrics, problem: Problem, facts: Facts) -> None:
        """A refusal; `facts` are what its line shows."""
        metrics.requested("", "", f"{problem.status_code // 100}xx", 0.0)
        metrics.rejected(problem.code)
        self._num_untold += 1
        if monotonic() - self._told_at >= _PAUSE_SECONDS:
            log.info("request", extra={"facts": {**facts, "refused": self._num_untold}})
            self._num_untold, self._told_at = 0, monotonic()
