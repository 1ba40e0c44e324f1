"""Answers the requests of batches while the server has room, and goes on with them after a restart."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from server.batches.check import error_of
from server.batches.records import Batch, BatchRequest, Status
from server.batches.store import BatchStore

log = logging.getLogger(__name__)

AT_ONCE = 8
"""Requests of all batches that are answered at once."""

_TRIES = 3  # of a request at which the engine ends: it may be the reason
_MOST_WAIT = 30.0
_LOOK_SECONDS = 1.0
_SWEEP_SECONDS = 60.0
_MOST_ERRORS = 20  # that are told of one document
_EXPIRED_AT_ONCE = 256
_OK = 200
_PASSES = ("overloaded", "not_ready", "rate_limited", "decode_timeout")  # will be over some time


@dataclass(frozen=True, slots=True)
class LineReply:
    """What came of a request; `retry_seconds` where it may be tried again then."""

    status: int
    request_id: str
    body: Any
    retry_seconds: float | None = None

    @property
    def is_passing(self) -> bool:
        return isinstance(self.body, dict) and self.body.get("error", {}).get("code") in _PASSES


class AskLine(Protocol):
    """Lets the server answer a JSON body for a tenant; a failure is a reply, too."""

    async def __call__(self, path: str, body: bytes, tenant: str, /) -> LineReply: ...


class BatchRunner:
    """One task for all batches; of several, requests are taken in turn, so that a small one is soon done."""

    def __init__(self, store: BatchStore, ask: AskLine, has_room: Callable[[], bool]) -> None:
        """`has_room` tells whether so few others ask that there is room for one more request."""
        self._store = store
        self._ask = ask
        self._has_room = has_room
        self._done: dict[str, int] = {}  # the last request of each batch of those that are done, or earlier
        self._steps: dict[str, asyncio.Task[None]] = {}  # of each batch the one that is being taken
        self._places = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Work for the time of the `with`; what is not answered by then waits for the next start."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            tasks = {task, *self._steps.values()}
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)

    async def _run(self) -> None:
        while True:
            self._store.news.clear()
            try:
                batches = await self._store.running()
            except Exception:
                log.exception("batches wait for %g s", _MOST_WAIT)
                await asyncio.sleep(_MOST_WAIT)
                continue
            share = max(AT_ONCE // max(len(batches), 1), 1)
            self._steps = {name: step for name, step in self._steps.items() if not step.done()}
            for batch in batches:
                if batch.id not in self._steps:
                    self._steps[batch.id] = asyncio.create_task(self._step(batch, share))
            # then it is looked whether documents have expired; `wait_for` may swallow a cancellation
            with suppress(TimeoutError):
                async with asyncio.timeout(_SWEEP_SECONDS):
                    await self._store.news.wait()

    async def _step(self, batch: Batch, share: int) -> None:
        """A batch's next step; one that fails, or waits, holds up no other batch."""
        try:
            await self._advance(batch, share)
        except Exception:
            log.exception("%s waits for %g s", batch.id, _MOST_WAIT)
            await asyncio.sleep(_MOST_WAIT)
        finally:
            self._store.news.set()

    async def _advance(self, batch: Batch, share: int) -> None:
        """A batch's next step: a few requests, or another status."""
        if batch.status == "validating":
            await self._validate(batch)
        elif batch.status == "cancelling":
            await self._end(batch, "cancelled")
        elif time.time() >= batch.expires_at:
            await self._expire(batch)
        else:
            requests = await self._store.unanswered(batch, self._done.get(batch.id, 0), share)
            await asyncio.gather(*(self._answer(batch, each) for each in requests))
            if requests:
                self._done[batch.id] = requests[-1].number
            else:
                await self._store.move(batch, "finalizing")
                await self._end(batch, "completed")

    async def _validate(self, batch: Batch) -> None:
        seen, errors, total = set[str](), list[dict[str, Any]](), 0
        async for request in self._store.requests(batch):
            total += 1
            error = error_of(request, batch.endpoint, seen)
            if error is not None and len(errors) < _MOST_ERRORS:
                errors.append({**error, "line": request.number})
        status: Status = "failed" if errors else "in_progress"
        await self._store.move(batch, status, errors=tuple(errors), total=total)

    async def _answer(self, batch: Batch, request: BatchRequest) -> None:
        # of a receipt that is sent back, too, the answer is whole
        body = json.dumps({**json.loads(request.text)["body"], "stream": False}).encode()
        num_tries = 0
        while True:
            await self._wait_for_room()
            if not await self._store.is_in_progress(batch):
                return
            async with self._places:
                reply = await self._ask(batch.endpoint, body, batch.tenant)
            num_tries += not reply.is_passing
            if reply.retry_seconds is None or num_tries >= _TRIES or time.time() >= batch.expires_at:
                break
            await asyncio.sleep(min(reply.retry_seconds, _MOST_WAIT))
        response = {"status_code": reply.status, "request_id": reply.request_id, "body": reply.body}
        await self._store.answer(batch, request, _line(request, response=response), ok=reply.status == _OK)

    async def _wait_for_room(self) -> None:
        while not self._has_room():  # noqa: ASYNC110 - who asks comes and goes without a word
            await asyncio.sleep(_LOOK_SECONDS)

    async def _expire(self, batch: Batch) -> None:
        """Requests without an answer get an error that says why."""
        error = {"code": "batch_expired", "message": "the batch was not done within 24 hours"}
        while requests := await self._store.unanswered(batch, 0, _EXPIRED_AT_ONCE):
            for request in requests:
                await self._store.answer(batch, request, _line(request, error=error), ok=False)
        await self._end(batch, "expired")

    async def _end(self, batch: Batch, status: Status) -> None:
        self._done.pop(batch.id, None)
        await self._store.move(batch, status)


def _line(
    request: BatchRequest, response: dict[str, Any] | None = None, error: dict[str, str] | None = None
) -> dict[str, Any]:
    """What became of a request, as the output has it."""
    name = json.loads(request.text)["custom_id"]
    return {"id": f"batch_req_{uuid4().hex}", "custom_id": name, "response": response, "error": error}
