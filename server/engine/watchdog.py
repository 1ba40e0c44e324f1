"""Ends an engine that does not answer; its callers would wait until their deadlines."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from bt_model.errors import EngineError
from server.engine.supervisor import RestartRule

log = logging.getLogger(__name__)


class Asked(Protocol):
    """An engine as it is asked whether it still answers."""

    @property
    def is_ready(self) -> bool: ...

    async def stats(self) -> object: ...


async def watch(engine: Asked, rule: RestartRule, kill: Callable[[], None]) -> None:
    """Ask again and again; never returns."""
    while True:
        await asyncio.sleep(rule.check_seconds)
        if not engine.is_ready:
            continue
        try:
            await asyncio.wait_for(engine.stats(), rule.silence_seconds)
        except TimeoutError:
            log.error("the engine did not answer for %g seconds", rule.silence_seconds)  # noqa: TRY400 - one line, no trace
            kill()
        except EngineError:
            continue  # it has died, which the supervisor detects
