"""Documents end by themselves, also while no batch runs, and a batch with the last of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from bt_model.errors import UnknownNameError
from server.batches import runner
from server.batches import store as batch_store
from server.batches.records import Document
from server.batches.runner import BatchRunner
from server.batches.store import BatchStore
from server.problems import Problem

ENDPOINT = "/v1/chat/completions"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BatchStore]:
    store = BatchStore(tmp_path, 0, 1000)
    yield store
    await store.close()


async def lines() -> AsyncIterator[bytes]:
    yield b'{"custom_id": "a"}\n'


async def received(store: BatchStore, seconds: int | None = None) -> Document:
    return await store.receive(lines(), "me", lambda: ("a.jsonl", seconds))


async def test_a_document_ends_while_no_batch_runs(
    store: BatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_SWEEP_SECONDS", 0.05)
    ask = cast(Any, None)  # nothing is asked
    async with BatchRunner(store, ask, lambda: True).running():
        short, long = await received(store, 1), await received(store)
        async with asyncio.timeout(5):
            while len(await store.documents("me", "batch", None, 10, "asc")) == 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert await store.documents("me", "batch", None, 10, "asc") == [long]
    with pytest.raises(UnknownNameError):
        await store.document("me", short.id)


async def test_an_ended_batch_goes_with_the_last_of_its_files(store: BatchStore) -> None:
    document = await received(store)
    first, second = [await store.create("me", document.id, ENDPOINT, {}) for _ in range(2)]
    for batch in (first, second):
        await store.move(batch, "cancelled")
    for name in (first.output_id, first.error_id):
        await store.delete_document(await store.document("me", name))
    assert len(await store.batches("me", None, 10)) == 2  # its input is there
    await store.delete_document(document)
    assert [each.id for each in await store.batches("me", None, 10)] == [second.id]
    with pytest.raises(UnknownNameError):
        await store.batch("me", first.id)


async def test_what_batches_write_counts_before_they_begin(
    store: BatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_store, "MAX_DOCUMENTS_OF_ONE", 3)
    document = await received(store)
    await store.create("me", document.id, ENDPOINT, {})
    with pytest.raises(Problem) as caught:
        await store.create("me", document.id, ENDPOINT, {})
    assert caught.value.code == "storage_quota"
