"""Clocks and randomness of the process, which follow from the seed while a run lasts."""

import os
import secrets
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tests.simulation.draws import Draws


@contextmanager
def virtual(wall: Callable[[], float], steady: Callable[[], float], draws: Draws) -> Generator[None]:
    """What the standard library answers to whoever asks it by its modules' names."""
    places = [(time, "time"), (time, "monotonic"), (os, "urandom"), (secrets, "token_bytes")]
    before = [getattr(module, name) for module, name in places]

    def token(num_bytes: int | None = None) -> bytes:
        return draws.token(32 if num_bytes is None else num_bytes)

    try:
        for (module, name), value in zip(places, (wall, steady, token, token), strict=True):
            setattr(module, name, value)
        yield
    finally:
        for (module, name), value in zip(places, before, strict=True):
            setattr(module, name, value)
