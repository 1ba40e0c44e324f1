"""Which models are loaded when, with tiny stand-ins of models: borrowing, waiting together, making room."""

import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bt_model.backends.echo import EchoLM
from bt_model.chat import VideoChat
from bt_model.errors import CheckpointError, UnknownNameError
from server.worker.models import Lease, Models
from tests import fakes
from tests.server.test_streams import until

SIZES = {"a": 100, "b": 100, "c": 100, "huge": 1000}


@dataclass
class Size:
    total: int

    def __str__(self) -> str:
        return f"{self.total} bytes in all"


@dataclass
class StandIns:
    """A loader of models without weights; loading waits for `gate`."""

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

    def load(self, name: str) -> VideoChat:
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
        return cast("VideoChat", SimpleNamespace(backend=backend, card=card))

    def free_bytes(self) -> int:
        held = sum(ref() is not None for ref in self.alive.values())
        return self.free - 100 * held

    def collect(self) -> None:
        gc.collect()
        self.seen_by_collect.append({name for name, ref in self.alive.items() if ref() is not None})


@dataclass
class Site:
    """Models and what they told."""

    loader: StandIns
    models: Models
    told: list[list[str]]

    def borrow(self, *names: str) -> Lease:
        leases = list[Lease]()
        self.models.borrow(names, leases.append)
        assert until(lambda: leases)
        return leases[0]

    def use(self, *names: str) -> None:
        self.models.give_back(self.borrow(*names).models.values())

    def loaded(self) -> list[str]:
        return [model.name for model in self.models.loaded()]


Start = Callable[..., Site]


@pytest.fixture
def start() -> Iterator[Start]:
    sites = list[Site]()

    def start(max_bytes: int | None = None, **more: Any) -> Site:
        loader, told = StandIns(**more), list[list[str]]()
        loader.gate.set()
        models = Models(tuple(SIZES), loader, told.append, max_bytes=max_bytes, max_batch=1)
        models.start()
        sites.append(Site(loader, models, told))
        return sites[-1]

    yield start
    for site in sites:
        site.models.stop(0.0)


def test_only_the_first_is_loaded_at_the_start(start: Start) -> None:
    site = start()
    assert (site.loader.loads, site.loaded()) == (["a"], ["a"])


def test_a_first_model_that_does_not_load_is_raised() -> None:
    loader = StandIns(broken={"a"})
    loader.gate.set()
    with pytest.raises(CheckpointError, match=r"a\.safetensors: tensor x"):
        Models(["a"], loader, lambda names: None).start()


def test_another_is_loaded_when_it_is_first_used_and_stays(start: Start) -> None:
    site = start()
    site.use("b")
    site.use("b")
    assert site.loader.loads == ["a", "b"]
    assert site.told[-1] == ["a", "b"]
    assert (site.models.num_loads, site.models.num_unloads) == (2, 0)


def test_the_estimate_is_told_before_loading(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    start().use("b")
    assert "engine: loading b: 100 bytes in all\n" in capsys.readouterr().err


def test_a_loaded_model_is_had_at_once_while_another_loads(start: Start) -> None:
    site = start()
    site.loader.gate.clear()
    late, at_once = list[Lease](), list[Lease]()
    site.models.borrow(["b"], late.append)
    site.models.borrow(["a"], at_once.append)
    assert [list(lease.models) for lease in at_once] == [["a"]]
    assert late == []
    site.loader.gate.set()
    assert until(lambda: late)


def test_those_who_wait_for_a_model_load_it_once(start: Start) -> None:
    site = start()
    site.loader.gate.clear()
    leases = list[Lease]()
    for _ in range(5):
        site.models.borrow(["b"], leases.append)
    site.loader.gate.set()
    assert until(lambda: len(leases) == 5)
    assert site.loader.loads == ["a", "b"]
    assert {lease.models["b"].num_users for lease in leases} == {5}


def test_those_who_wait_for_a_broken_model_share_one_attempt(start: Start) -> None:
    site = start(broken={"b"})
    site.loader.gate.clear()
    leases = list[Lease]()
    for _ in range(3):
        site.models.borrow(["b"], leases.append)
    site.loader.gate.set()
    assert until(lambda: len(leases) == 3)
    assert site.loader.loads == ["a", "b"]
    assert {lease.failures["b"].message for lease in leases} == {"b.safetensors: tensor x is missing"}
    assert {type(lease.failures["b"]) for lease in leases} == {CheckpointError}


def test_a_broken_model_is_tried_again_later_and_the_others_go_on(start: Start) -> None:
    site = start(broken={"b"})
    assert site.borrow("b").failures
    site.loader.broken.clear()
    site.use("b")
    site.use("a")
    assert site.loader.loads == ["a", "b", "b"]


def test_an_unforeseen_failure_is_one_line_and_the_loader_lives(start: Start) -> None:
    site = start()
    error = site.borrow("huge").failures["huge"]
    assert (error.message, error.code) == (
        "huge cannot be loaded: MemoryError: no room at all",
        "model_failed",
    )
    site.use("b")


def test_an_unknown_name_is_refused_with_the_known(start: Start) -> None:
    with pytest.raises(UnknownNameError, match="available: a, b, c, huge"):
        start().borrow("d")


def test_the_least_recently_used_makes_room(start: Start) -> None:
    site = start(max_bytes=200)
    for name in ("b", "a", "c"):
        site.use(name)
    assert site.loaded() == ["a", "c"]
    assert site.told == [["a"], ["a", "b"], ["a"], ["a", "c"]]
    assert (site.models.num_loads, site.models.num_unloads) == (3, 1)


def test_an_unloaded_models_memory_is_given_back(start: Start) -> None:
    site = start(max_bytes=100)
    site.use("b")
    assert site.loader.seen_by_collect[0] == set()
    assert site.loader.alive["b"]() is not None
    assert [thread.name for thread in threading.enumerate()].count("generation") == 1


def test_a_borrowed_model_is_never_unloaded(start: Start) -> None:
    site = start(max_bytes=200)
    lease = site.borrow("a")
    for name in ("b", "c"):
        site.use(name)
    assert site.loaded() == ["a", "c"]
    site.models.give_back(lease.models.values())
    site.use("b")
    assert site.loaded() == ["c", "b"]


def test_where_all_are_borrowed_nothing_more_fits_and_the_figures_are_told(start: Start) -> None:
    site = start(max_bytes=250 * 2**20, free=2**30)
    site.loader.sizes["c"] = 200 * 2**20
    held = [site.borrow("a"), site.borrow("b")]
    held[0].models["a"].num_bytes = 60 * 2**20
    error = site.borrow("c").failures["c"]
    assert error.code == "model_memory"
    assert all(figure in error.message for figure in ("200.0 MiB", "250.0 MiB", "60.0 MiB", "(a, b)"))
    assert site.loaded() == ["a", "b"]


def test_nothing_is_unloaded_for_a_model_that_would_not_fit_even_so(start: Start) -> None:
    site = start(max_bytes=900)
    site.use("b")
    assert site.borrow("huge").failures["huge"].code == "model_memory"
    assert site.loaded() == ["a", "b"]


def test_a_full_device_is_made_room_on_as_well(start: Start) -> None:
    site = start(free=200)
    site.use("b")
    site.use("c")
    assert site.loaded() == ["b", "c"]


def test_a_model_that_the_device_cannot_hold_is_refused_with_the_figures(start: Start) -> None:
    site = start(free=900)
    error = site.borrow("huge").failures["huge"]
    assert (error.code, error.message) == (
        "model_memory",
        "huge needs 0.0 MiB; 0.0 MiB are free on this device",
    )
    assert "huge" not in site.loader.loads


def test_weights_that_changed_on_disk_are_not_taken_for_those_of_before(start: Start) -> None:
    site = start(max_bytes=100)
    site.use("b")
    site.loader.fingerprint = "after"
    assert "changed on disk" in site.borrow("a").failures["a"].message
    site.loader.fingerprint = "before"
    site.use("a")


def test_a_model_whose_thread_is_gone_is_noticed_and_an_unloaded_one_is_not_missed(start: Start) -> None:
    site = start(max_bytes=100)
    site.use("b")
    assert not site.models.has_died()
    site.models.loaded()[0].engine.stop()
    assert site.models.has_died()


def test_several_models_are_borrowed_together_and_one_that_fails_is_named(start: Start) -> None:
    site = start(broken={"c"})
    lease = site.borrow("b", "c", "a")
    assert sorted(lease.models) == ["a", "b"]
    assert list(lease.failures) == ["c"]
    assert [model.num_users for model in lease.models.values()] == [1, 1]


def test_a_wish_that_nobody_has_any_more_loads_nothing(start: Start) -> None:
    site = start()
    leases = list[Lease]()
    site.models.borrow(["b"], leases.append, lambda: False)
    assert until(lambda: leases)
    assert (leases[0], site.loader.loads) == (Lease(), ["a"])


def test_a_failure_holds_nothing_that_was_loaded_so_far(start: Start) -> None:
    site = start(max_bytes=100)
    for _ in range(2):
        lease = site.borrow("b", "c")
        assert lease.failures["c"].code == "model_memory"
        site.models.give_back(lease.models.values())
        del lease
    site.use("a")
    assert site.loader.alive["b"]() is None
