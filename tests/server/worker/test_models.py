"""Which models are loaded when, with tiny stand-ins of models: borrowing, waiting together, making room."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bt_model.backends.echo import EchoLM
from bt_model.chat import VideoChat
from bt_model.errors import CheckpointError, UnknownNameError
from server.worker.loaded import Lease
from server.worker.models import ModelPool
from server.worker.watchdog import find_fault
from tests import fakes

SIZES = {"a": 100, "b": 100, "c": 100, "huge": 1000}


@dataclass
class Size:
    total: int
    max_batch: int = 2
    max_context: int = 0
    num_pages: int = 0

    def __str__(self) -> str:
        return f"{self.total} bytes in all"


def not_watched(name: str, number: int, count: int) -> None: ...


@dataclass
class StandIns:
    """A loader of models without weights; loading waits for `gate`."""

    ids: tuple[str, ...] = tuple(SIZES)
    free: int = 10_000
    fingerprint: str = "before"
    sizes: dict[str, int] = field(default_factory=lambda: dict(SIZES))
    loads: list[str] = field(default_factory=list[str])
    broken: set[str] = field(default_factory=set[str])
    gate: threading.Event = field(default_factory=threading.Event)
    alive: "dict[str, weakref.ref[object]]" = field(default_factory=dict[str, Any])
    seen_by_collect: list[set[str]] = field(default_factory=list[set[str]])

    def estimate(self, name: str) -> Size:
        return Size(self.sizes[name])

    def load(self, name: str, report: object) -> VideoChat:
        self.loads.append(name)
        assert self.gate.wait(10)
        if name in self.broken:
            raise CheckpointError(f"{name}.safetensors: tensor x is missing")
        if name == "huge":
            raise MemoryError("no room\nat all")
        lm = EchoLM()
        self.alive[name] = weakref.ref(lm)
        backend = SimpleNamespace(lm=lm)
        card = replace(fakes.CARD, id=name, fingerprint=self.fingerprint)
        return cast("VideoChat", SimpleNamespace(backend=backend, card=card, grammars=dict))

    def base_of(self, name: str) -> str | None:
        base, _, adapter = name.partition("@")
        return base if adapter else None

    def load_beside(self, name: str, base: VideoChat) -> VideoChat:
        self.loads.append(name)
        if name in self.broken:
            raise CheckpointError(f"{name}.safetensors: tensor x is missing")
        card = replace(fakes.CARD, id=name, fingerprint=self.fingerprint)
        return cast("VideoChat", SimpleNamespace(backend=base.backend, card=card, grammars=dict))

    def free_bytes(self) -> int:
        held = sum(ref() is not None for ref in self.alive.values())
        return self.free - 100 * held

    def collect(self) -> None:
        gc.collect()
        self.seen_by_collect.append({name for name, ref in self.alive.items() if ref() is not None})


@dataclass
class Site:
    """ModelPool and the names that they reported."""

    loader: StandIns
    models: ModelPool
    reported: list[list[str]]

    async def use(self, *names: str) -> Lease:
        """Borrow and give back; what was borrowed."""
        async with self.models.borrowed(names) as lease:
            return lease

    def loaded(self) -> list[str]:
        return [model.name for model in self.models.loaded()]


Start = Callable[..., Awaitable[Site]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    sites = list[Site]()

    async def start(max_bytes: int | None = None, **more: Any) -> Site:
        loader, reported = StandIns(**more), list[list[str]]()
        loader.gate.set()
        models = ModelPool(loader, reported.append, not_watched, max_bytes=max_bytes)
        await models.start()
        sites.append(Site(loader, models, reported))
        return sites[-1]

    yield start
    for site in sites:
        await site.models.stop()


async def test_only_the_first_is_loaded_at_the_start(start: Start) -> None:
    site = await start()
    assert (site.loader.loads, site.loaded()) == (["a"], ["a"])
    assert site.models.loaded()[0].num_users == 0


async def test_one_who_asks_for_the_first_before_it_is_there_waits_for_it() -> None:
    loader = StandIns()
    site = Site(loader, ModelPool(loader, lambda names: None, not_watched), [])
    starting = asyncio.create_task(site.models.start())
    await loading(site, "a")
    asking = asyncio.create_task(site.use("a"))
    site.loader.gate.set()
    await asyncio.gather(starting, asking)
    assert site.loader.loads == ["a"]
    await site.models.stop()


async def test_a_first_model_that_does_not_load_is_raised() -> None:
    loader = StandIns(broken={"a"})
    loader.gate.set()
    with pytest.raises(CheckpointError, match=r"a\.safetensors: tensor x"):
        await ModelPool(loader, lambda names: None, not_watched).start()


async def test_another_is_loaded_when_it_is_first_used_and_stays(start: Start) -> None:
    site = await start()
    await site.use("b")
    await site.use("b")
    assert site.loader.loads == ["a", "b"]
    assert site.reported[-1] == ["a", "b"]
    assert (site.models.num_loads, site.models.num_unloads) == (2, 0)


async def test_the_estimate_is_told_before_loading(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        await (await start()).use("b")
    assert "loading b: 100 bytes in all" in caplog.messages


async def test_a_loaded_model_is_had_at_once_while_another_loads(start: Start) -> None:
    site = await start()
    site.loader.gate.clear()
    late = asyncio.create_task(site.use("b"))
    await loading(site, "b")
    assert list((await site.use("a")).models) == ["a"]
    assert not late.done()
    site.loader.gate.set()
    await late


async def test_those_who_wait_for_a_model_load_it_once(start: Start) -> None:
    site = await start()
    async with AsyncExitStack() as stack:
        borrowed = [stack.enter_async_context(site.models.borrowed(["b"])) for _ in range(5)]
        await asyncio.gather(*borrowed)
        assert site.loader.loads == ["a", "b"]
        assert site.models.loaded()[-1].num_users == 5
    assert site.models.loaded()[-1].num_users == 0


async def test_those_who_wait_for_a_broken_model_share_one_attempt(start: Start) -> None:
    site = await start(broken={"b"})
    leases = await asyncio.gather(*(site.use("b") for _ in range(3)))
    assert site.loader.loads == ["a", "b"]
    assert {lease.failures["b"].message for lease in leases} == {"b.safetensors: tensor x is missing"}
    assert {type(lease.failures["b"]) for lease in leases} == {CheckpointError}


async def test_a_broken_model_is_tried_again_later_and_the_others_go_on(start: Start) -> None:
    site = await start(broken={"b"})
    assert (await site.use("b")).failures
    site.loader.broken.clear()
    await site.use("b")
    await site.use("a")
    assert site.loader.loads == ["a", "b", "b"]


async def test_an_unforeseen_failure_is_one_line_and_the_loader_lives(start: Start) -> None:
    site = await start()
    error = (await site.use("huge")).failures["huge"]
    assert (error.message, error.code) == (
        "huge cannot be loaded: MemoryError: no room at all",
        "model_failed",
    )
    await site.use("b")


async def test_an_unknown_name_is_refused_with_the_known(start: Start) -> None:
    with pytest.raises(UnknownNameError, match="available: a, b, c, huge"):
        await (await start()).use("d")


async def test_the_least_recently_used_makes_room(start: Start) -> None:
    site = await start(max_bytes=200)
    for name in ("b", "a", "c"):
        await site.use(name)
    assert site.loaded() == ["a", "c"]
    assert site.reported == [["a"], ["a", "b"], ["a"], ["a", "c"]]
    assert (site.models.num_loads, site.models.num_unloads) == (3, 1)


async def test_an_unloaded_models_memory_is_given_back(start: Start) -> None:
    def num_generating() -> int:
        return [thread.name for thread in threading.enumerate()].count("generation")

    before = num_generating()
    site = await start(max_bytes=100)
    await site.use("b")
    assert site.loader.seen_by_collect[0] == set()
    assert site.loader.alive["b"]() is not None
    assert num_generating() == before + 1


async def test_a_borrowed_model_is_never_unloaded(start: Start) -> None:
    site = await start(max_bytes=200)
    async with site.models.borrowed(["a"]):
        for name in ("b", "c"):
            await site.use(name)
        assert site.loaded() == ["a", "c"]
    await site.use("b")
    assert site.loaded() == ["c", "b"]


async def test_where_all_are_borrowed_nothing_more_fits_and_the_figures_are_told(start: Start) -> None:
    site = await start(max_bytes=250 * 2**20, free=2**30)
    site.loader.sizes["c"] = 200 * 2**20
    async with site.models.borrowed(["a"]) as lease, site.models.borrowed(["b"]):
        lease.models["a"].num_bytes = 60 * 2**20
        error = (await site.use("c")).failures["c"]
        assert error.code == "model_memory"
        assert all(figure in error.message for figure in ("200.0 MiB", "250.0 MiB", "60.0 MiB", "(a, b)"))
        assert site.loaded() == ["a", "b"]


async def test_nothing_is_unloaded_for_a_model_that_would_not_fit_even_so(start: Start) -> None:
    site = await start(max_bytes=900)
    await site.use("b")
    assert (await site.use("huge")).failures["huge"].code == "model_memory"
    assert site.loaded() == ["a", "b"]


async def test_a_full_device_is_made_room_on_as_well(start: Start) -> None:
    site = await start(free=200)
    await site.use("b")
    await site.use("c")
    assert site.loaded() == ["b", "c"]


async def test_a_model_that_the_device_cannot_hold_is_refused_with_the_figures(start: Start) -> None:
    site = await start(free=900)
    error = (await site.use("huge")).failures["huge"]
    assert error.code == "model_memory"
    assert error.message.startswith(
        "huge needs 0.0 MiB; 0.0 MiB are free on this device; BTCHAT_KV_BYTES and "
    )
    assert "huge" not in site.loader.loads


async def test_weights_that_changed_on_disk_are_not_taken_for_those_of_before(start: Start) -> None:
    site = await start(max_bytes=100)
    await site.use("b")
    site.loader.fingerprint = "after"
    assert "changed on disk" in (await site.use("a")).failures["a"].message
    site.loader.fingerprint = "before"
    await site.use("a")


async def test_a_model_whose_thread_is_gone_is_noticed_and_an_unloaded_one_is_not_missed(
    start: Start,
) -> None:
    site = await start(max_bytes=100)
    await site.use("b")
    assert find_fault(site.models.loaded(), (), 9.0) is None
    site.models.loaded()[0].engine.stop()
    assert find_fault(site.models.loaded(), (), 9.0) == "the generation thread of b is gone"


async def test_several_models_are_borrowed_together_and_one_that_fails_is_named(start: Start) -> None:
    site = await start(broken={"c"})
    async with site.models.borrowed(["b", "c", "a"]) as lease:
        assert sorted(lease.models) == ["a", "b"]
        assert list(lease.failures) == ["c"]
        assert [model.num_users for model in lease.models.values()] == [1, 1]


async def test_one_who_leaves_before_his_turn_loads_nothing(start: Start) -> None:
    site = await start()
    site.loader.gate.clear()
    first, second = asyncio.create_task(site.use("b")), asyncio.create_task(site.use("c"))
    await loading(site, "b")
    second.cancel()
    await asyncio.wait({second})
    site.loader.gate.set()
    await first
    assert site.loader.loads == ["a", "b"]


async def test_one_who_leaves_while_his_model_loads_leaves_it_loaded_and_unused(start: Start) -> None:
    site = await start()
    site.loader.gate.clear()
    task = asyncio.create_task(site.use("b"))
    await loading(site, "b")
    task.cancel()
    site.loader.gate.set()
    await asyncio.wait({task})
    assert task.cancelled()
    assert [(model.name, model.num_users) for model in site.models.loaded()] == [("a", 0), ("b", 0)]


async def test_a_failure_holds_nothing_that_was_loaded_so_far(start: Start) -> None:
    site = await start(max_bytes=100)
    for _ in range(2):
        async with site.models.borrowed(["b", "c"]) as lease:
            assert lease.failures["c"].code == "model_memory"
        del lease
    await site.use("a")
    assert site.loader.alive["b"]() is None


async def test_nothing_is_loaded_any_more_once_the_engine_stops(start: Start) -> None:
    site = await start()
    await site.models.stop()
    assert (await site.use("b")).failures["b"].code == "stopping"


async def loading(site: Site, name: str) -> None:
    """Wait until a model is being loaded."""
    async with asyncio.timeout(10):
        while site.loader.loads[-1:] != [name]:  # noqa: ASYNC110 - another thread does it
            await asyncio.sleep(0.005)


BESIDE = {"a": 100, "a@x": 10, "a@y": 10, "b": 100, "c": 100}


async def test_a_model_with_another_adapter_shares_the_engine_and_brings_its_model(start: Start) -> None:
    site = await start(sizes=BESIDE, ids=tuple(BESIDE), max_bytes=120)
    async with site.models.borrowed(["a@x", "a", "a@y"]) as lease:
        assert len({lease.models[name].engine for name in ("a", "a@x", "a@y")}) == 1
        assert lease.model("a@x").chat.backend is lease.model("a").chat.backend
    assert site.loader.loads == ["a", "a@x", "a@y"]


async def test_a_model_stays_while_one_beside_it_is_used(start: Start) -> None:
    site = await start(sizes=BESIDE | {"c": 150}, ids=tuple(BESIDE), max_bytes=210)
    async with site.models.borrowed(["a@x"]) as lease:
        await site.use("b")
        assert (await site.use("c")).failures["c"].code == "model_memory"
        assert lease.model("a@x").engine.stats().alive
    assert site.loaded() == ["a", "a@x", "b"]  # none was unloaded in vain


async def test_a_model_is_unloaded_after_those_beside_it(start: Start) -> None:
    site = await start(sizes=BESIDE, ids=tuple(BESIDE), max_bytes=150)
    await site.use("a@x", "a@y")
    await site.use("b")
    assert site.loaded() == ["b"]
    assert site.loader.alive["a"]() is None
    assert site.models.num_unloads == 3


async def test_an_adapter_that_is_unloaded_leaves_the_engine_of_its_model(start: Start) -> None:
    site = await start(sizes=BESIDE, ids=tuple(BESIDE), max_bytes=205)
    await site.use("a@x")
    await site.use("b", "a")
    assert site.loaded() == ["b", "a"]
    assert all(model.engine.stats().alive for model in site.models.loaded())


async def test_an_adapter_whose_model_was_unloaded_brings_it_again(start: Start) -> None:
    site = await start(sizes=BESIDE, ids=tuple(BESIDE), max_bytes=110)
    await site.use("b")
    await site.use("a@y")
    assert site.loaded() == ["a", "a@y"]
    assert site.loader.loads == ["a", "b", "a", "a@y"]
