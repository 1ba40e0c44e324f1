"""Batches beside each other: none holds up another, whatever its lines are."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bt_model.errors import InvalidValueError
from server.batches.records import Batch
from server.batches.runner import BatchRunner, LineReply
from server.batches.store import BatchStore

ENDPOINT = "/v1/chat/completions"
WAITS = LineReply(429, "r", {"error": {"code": "rate_limited"}}, 30.0)
DONE = LineReply(200, "r", {"text": "yes"})


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BatchStore]:
    store = BatchStore(tmp_path, 0, 1000)
    yield store
    await store.close()


def line(name: str, **body: Any) -> str:
    return json.dumps({"custom_id": name, "method": "POST", "url": ENDPOINT, "body": body})


async def begun(store: BatchStore, tenant: str, *lines: str) -> Batch:
    async def content() -> AsyncIterator[bytes]:
        yield "\n".join(lines).encode()

    document = await store.receive(content(), tenant, lambda: ("a.jsonl", None))
    return await store.create(tenant, document.id, ENDPOINT, {})


async def ended(store: BatchStore, batch: Batch) -> Batch:
    async with asyncio.timeout(5):
        while not (now := await store.batch(batch.tenant, batch.id)).is_ended:  # noqa: ASYNC110 - it is asked for
            await asyncio.sleep(0.02)
    return now


async def test_a_key_at_its_limit_holds_up_no_other(store: BatchStore) -> None:
    async def ask(_path: str, _body: bytes, tenant: str) -> LineReply:
        return WAITS if tenant == "full" else DONE

    async with BatchRunner(store, ask, lambda: True).running():
        waiting = await begun(store, "full", *(line(str(number)) for number in range(20)))
        batch = await ended(store, await begun(store, "free", *(line(str(number)) for number in range(20))))
        assert (batch.status, batch.completed) == ("completed", 20)
        assert (await store.batch("full", waiting.id)).status == "in_progress"


async def test_a_line_that_breaks_holds_up_its_own_batch_alone(store: BatchStore) -> None:
    async def ask(_path: str, _body: bytes, tenant: str) -> LineReply:
        if tenant == "odd":
            raise RuntimeError("nobody thought of this")
        return DONE

    async with BatchRunner(store, ask, lambda: True).running():
        await begun(store, "odd", line("a"))
        assert (await ended(store, await begun(store, "free", line("a")))).status == "completed"


async def test_answers_are_whole_whatever_a_receipt_says(store: BatchStore) -> None:
    bodies: list[Any] = []

    async def ask(_path: str, body: bytes, _tenant: str) -> LineReply:
        bodies.append(json.loads(body))
        return DONE

    async with BatchRunner(store, ask, lambda: True).running():
        await ended(store, await begun(store, "me", line("a", receipt={"request": {"stream": True}})))
    assert [body["stream"] for body in bodies] == [False]


async def test_half_a_character_is_no_name(store: BatchStore) -> None:
    async def ask(_path: str, _body: bytes, _tenant: str) -> LineReply:
        return DONE

    async with BatchRunner(store, ask, lambda: True).running():
        batch = await ended(store, await begun(store, "me", line("\ud83d")))
    assert (batch.status, batch.errors[0]["code"]) == ("failed", "invalid_json_line")


async def test_a_cancel_is_not_lost_to_who_read_the_batch_before(store: BatchStore) -> None:
    batch = await begun(store, "me", line("a"))
    await store.move(batch, "cancelling")
    assert (await store.move(batch, "in_progress", total=1)).status == "cancelling"
    assert (await store.move(batch, "cancelled")).status == "cancelled"


async def test_no_line_behind_blank_ones_is_lost(store: BatchStore) -> None:
    with pytest.raises(InvalidValueError, match="leave blank lines out"):
        await begun(store, "me", ("\n" * 100_000) + line("a"))
