"""The request that is answered now: its id is on every line that is written meanwhile, its facts on its own.

Tasks and threads that are started for a request know it, too; its dictionary is one for all of them.
"""

import re
from contextvars import ContextVar
from uuid import uuid4

Facts = dict[str, object]

REQUEST_ID = "request_id"
ID_HEADER = "x-request-id"
FACTS = "facts"
"""Where a request's facts stand in the state of its scope, for the connection that it came on."""

_FORM = re.compile(r"[A-Za-z0-9._-]{1,64}")
_facts: ContextVar[Facts | None] = ContextVar("facts", default=None)


def begin(given: str = "", known: Facts | None = None) -> Facts:
    """From here on, this is the request that is answered; it keeps its client's id if that is well-formed.

    What is known of it already stays, its id as well.
    """
    facts: Facts = {} if known is None else known
    facts.setdefault(REQUEST_ID, given if _FORM.fullmatch(given) else uuid4().hex)
    _facts.set(facts)
    return facts


def current_id() -> str | None:
    """The id of the request that is answered now; None for what the server does by itself."""
    facts = _facts.get()
    return None if facts is None else str(facts[REQUEST_ID])


def note(**facts: object) -> None:
    """Put facts on the request's line, in the place of what was there."""
    if (known := _facts.get()) is not None:
        known.update(facts)


def count(**numbers: int) -> None:
    """Add to numbers on the request's line: of several answers, it has the sum."""
    if (known := _facts.get()) is not None:
        for name, number in numbers.items():
            before = known.get(name, 0)
            known[name] = number + (before if isinstance(before, int) else 0)
