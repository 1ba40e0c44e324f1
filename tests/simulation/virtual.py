"""Clocks and randomness, which follow from the seed while a run lasts."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from tests.simulation.draws import Draws


@contextmanager
def virtual(wall: Callable[[], float], steady: Callable[[], float], draws: Draws) -> Generator[None]:
    """What the standard library answers to whoever asks it by its modules' names, in this thread."""
    places = [(time, "time"), (time, "monotonic"), (os, "urandom"), (secrets, "token_bytes")]
    before = [getattr(module, name) for module, name in places]
    here = threading.get_ident()

    def token(num_bytes: int | None = None) -> bytes:
        return draws.token(32 if num_bytes is None else num_bytes)

    def answering(ours: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
        # another thread's event loop, which slept until such a time, would sleep for ever
        def answer(*args: Any) -> Any:
            return (ours if threading.get_ident() == here else real)(*args)

        return answer

    try:
        for (module, name), ours, real in zip(places, (wall, steady, token, token), before, strict=True):
            setattr(module, name, answering(ours, real))
        yield
    finally:
        for (module, name), real in zip(places, before, strict=True):
            setattr(module, name, real)
