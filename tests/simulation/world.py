"""One run: servers of our own code, one after the other on one disk, between simulated edges."""

import asyncio
import gc
import logging
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import cast

from bt_model.decoding.pool import DecodePool
from server.admission import Admission
from server.answers.flow import ChatFlow
from server.batches.store import BatchStore
from server.deps import Services
from server.engine.client import EngineClient
from server.engine.supervisor import RestartRule
from server.features.ahead import EncodeAhead
from server.features.flights import VideoFeatures
from server.fetching.fetcher import Fetcher
from server.fetching.lookups import Lookups
from server.keys.file import ApiKey, ApiKeys
from server.live.places import LivePlaces
from server.settings import KeyLimits, Settings
from server.uploads.disk import Clock
from server.uploads.expiry import expiring
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits
from tests.simulation.clients import Client
from tests.simulation.decoder import SimulatedDecoder
from tests.simulation.disk import SimulatedDisk
from tests.simulation.draws import Draws
from tests.simulation.engine import EngineFaults, Machine, SimulatedEngine
from tests.simulation.ledger import MAX_PER_KEY, MAX_REQUESTS, REQUEST_SECONDS, Ledger
from tests.simulation.loop import SimulatedLoop, Stuck
from tests.simulation.plan import TENANTS, Action, Life, Plan, Trouble
from tests.simulation.rest import Rest, num_descriptors
from tests.simulation.trace import Trace
from tests.simulation.uncounted import Uncounted
from tests.simulation.virtual import virtual

_BEGIN = 1_900_000_000.0  # the wall clock's first second
_RULE = RestartRule(window_seconds=15.0, start_seconds=20.0, silence_seconds=5.0, check_seconds=2.0)
_START_SECONDS = 60.0
_LEFT_SECONDS = 0.06
"""So long after its client has left, nobody works for a request."""

_HANG_SECONDS = _RULE.silence_seconds + 2 * _RULE.check_seconds + 1


_FAILING = (("write", "sync"), ("rename", "sync of a folder"))
_NEVER = 1e15
_ADMITTED_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Finding:
    """An invariant that was broken."""

    invariant: str
    text: str


class World:
    """A run of a plan. `finding` is the first invariant that was broken, if one was."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trace = Trace()
        self.loop = SimulatedLoop(Draws(plan.seed, 3), self._find_in_loop, self.lose_power)
        self.trace.loop = self.loop
        self.ledger = Ledger(self.loop.time, plan.has_keys)
        self.disk = SimulatedDisk(Draws(plan.seed, 4), self.trace)
        self.machine = Machine(self.loop, Draws(plan.seed, 5), self.trace, self.find)
        self.finding: Finding | None = None
        self.step_seconds = 0.0  # by which the wall clock was set
        self._ended = asyncio.Event()
        self._is_over = False  # the server's end undoes things in ways that nobody sees
        self._clients: set[asyncio.Task[None]] = set()
        self.decoder: SimulatedDecoder
        self.services: Services
        self.life: Life

    # --- clocks

    def wall(self) -> float:
        return _BEGIN + self.loop.time() + self.step_seconds

    def expiry(self, since: float) -> float:
        return since + self.life.ttl_seconds if self.life.ttl_seconds else _NEVER

    def digest(self, content: bytes) -> str:
        return sha256(content).hexdigest()

    # --- findings

    def find(self, invariant: str, text: str) -> None:
        if self.finding is None and not self._is_over:
            self.trace.add("FOUND", f"{invariant}: {text}")
            self.finding = Finding(invariant, text)
            self._ended.set()

    def _find_in_loop(self, text: str) -> None:
        self.find("an error that nobody handles", text)

    def lose_power(self) -> None:
        self.loop.is_dead = True
        self._ended.set()

    # --- running

    def run(self, folder: Path) -> None:
        """All lives, until something is found."""
        with virtual(self.wall, self.loop.time, Draws(self.plan.seed, 6)):
            try:
                self.loop.run(self._live_all(folder))
            except Stuck as error:
                self.find("stuck", str(error))
            finally:
                self.disk.end()

    async def _live_all(self, folder: Path) -> None:
        baseline = num_descriptors()
        for life in self.plan.lives:
            self.life = life
            self._ended = asyncio.Event()
            self._is_over = False
            await self._live(life, folder, baseline)
            if self.finding is not None:
                await self._crash()
                return

    async def _live(self, life: Life, folder: Path, baseline: int) -> None:
        self.trace.add("server", "starts")
        server = asyncio.create_task(self._serve(life, folder))
        ended = asyncio.create_task(self._ended.wait())
        await asyncio.wait({server, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self.finding is not None:
            return
        if server.done():
            server.result()
            await Rest(self).check_end(baseline)
            return
        self.trace.add("server", f"is gone: {life.end}")
        if life.end == "power cut":
            self.disk.cut()
        await self._crash()

    async def _serve(self, life: Life, folder: Path) -> None:
        async with self._services(life, folder) as self.services:
            await asyncio.wait_for(self.services.engine.wait_started(), _START_SECONDS)
            self._mend()
            now = self.loop.time()
            self.ledger.faults = [(begin, min(end, now), fault) for begin, end, fault in self.ledger.faults]
            rest = Rest(self)
            await rest.check_uploads()
            begin = self.loop.time()
            for event in life.events:
                self.loop.call_at(begin + event.at, self._happen, event)
            await asyncio.sleep(life.ends_at)
            if life.end == "killed":
                self.loop.is_dead = True
                self._ended.set()
            if life.end == "power cut":
                self.disk.faults.cut_after = Draws(self.plan.seed, 7, int(life.ends_at * 1000)).below(8)
                await asyncio.sleep(0.5)
                self.lose_power()
            while self._clients:
                _, late = await asyncio.wait(self._clients, timeout=REQUEST_SECONDS + 30)
                if late:
                    numbers = sorted(self.ledger.visits)
                    self.find("a request does not end", ", ".join(f"#{number}" for number in numbers))
                    return
            self._mend()
            await rest.check()

    def _happen(self, event: Action | Trouble) -> None:
        if isinstance(event, Action):
            self.loop.call_later(_ADMITTED_SECONDS, Rest(self).check_limits)
            task = asyncio.create_task(Client(self, event).run())
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)
        elif not self._ended.is_set():
            self.trace.add("fault", f"{event.fault} for {event.seconds:.3f} s")
            # after one failed sync a store takes no more until it is opened again
            until = _NEVER if event.fault == "disk fails" else self.loop.time() + event.seconds
            self.ledger.faults.append((self.loop.time(), until, event.fault))
            self._harm(event, is_on=True)
            self.loop.call_later(event.seconds, partial(self._harm, event, is_on=False))

    def _harm(self, event: Trouble, *, is_on: bool) -> None:
        engine, children, disk = self.machine.faults, self.decoder.faults, self.disk.faults
        match event.fault:
            case "answers stall":
                engine.stalls = is_on
            case "engine is slow":
                engine.slowness = 20.0 if is_on else 1.0
            case "engine fails":
                engine.failures = 0.3 if is_on else 0.0
            case "disk is full":
                self.disk.fill(is_full=is_on)
            case "disk fails":
                disk.failures = 0.3 if is_on else 0.0
                disk.failing = _FAILING[event.number % len(_FAILING)]
            case "children die":
                children.deaths = 0.3 if is_on else 0.0
            case "children hang":
                children.timeouts = 0.3 if is_on else 0.0
                children.slowness = 30.0 if is_on else 1.0
            case "engine does not start":
                engine.starts_fail = is_on
            case _:
                pass
        if is_on:
            self._harm_once(event)

    def _harm_once(self, event: Trouble) -> None:
        """What happens in one moment."""
        engine = self.machine.engine
        if event.fault == "clock steps":
            step = Draws(self.plan.seed, 8, event.number).between(-20.0, 20.0)
            self.step_seconds += step
            self.ledger.step_seconds += abs(step)
        if engine is None:
            return
        if event.fault in {"engine dies", "engine does not start"}:
            engine.die()
        elif event.fault == "engine hangs":
            self._hang(engine, event)
        elif event.fault == "tokens evicted":
            engine.cache.forget(b"")
            self.loop.call_later(event.seconds / 2, engine.cache.forget, b"")

    def _mend(self) -> None:
        faults = self.machine.faults
        faults.stalls, faults.slowness, faults.failures, faults.starts_fail = False, 1.0, 0.0, False
        self.disk.faults.is_full, self.disk.faults.failures = False, 0.0
        children = self.decoder.faults
        children.deaths, children.timeouts, children.slowness = 0.0, 0.0, 1.0

    def _hang(self, engine: SimulatedEngine, event: Trouble) -> None:
        """For a while, or for ever, until it is killed."""
        is_endless = event.number % 3 > 0
        until = _NEVER if is_endless else self.loop.time() + event.seconds
        engine.hangs_until = max(engine.hangs_until, until)

        def check() -> None:
            if is_endless and engine.returncode is None:
                self.find("an engine that hangs is not killed", f"after {_HANG_SECONDS:g} s")

        self.loop.call_later(_HANG_SECONDS, check)

    def watch_left(self, client: Client) -> None:
        """A little later nobody works for a client that has left."""
        self.loop.call_later(_LEFT_SECONDS, Rest(self).check_left, client)

    async def _crash(self) -> None:
        """End everything that belongs to the server and its clients; nothing of it has an effect."""
        self._is_over = self.loop.is_dead = True
        if self.machine.engine is not None:
            self.machine.engine.die(-9)
        own = asyncio.current_task()
        for _ in range(20):
            tasks = {task for task in asyncio.all_tasks() if task is not own}
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=1.0)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.exception()  # nobody else will look at it
        self.loop.clear()
        self.disk.close_all()
        self.machine.faults = EngineFaults()
        self._clients.clear()
        self.ledger.visits.clear()
        self.loop.is_dead = False

    @asynccontextmanager
    async def _services(self, life: Life, folder: Path) -> AsyncGenerator[Services]:
        """As `server.main.start_services`, between simulated edges."""
        metrics = Uncounted()
        settings = Settings(data_dir=folder, max_requests=MAX_REQUESTS)
        limits_of_key = KeyLimits(max_requests_per_key=MAX_PER_KEY)
        tenants = TENANTS if self.plan.has_keys else ()
        keys = ApiKeys([ApiKey(tenant.encode(), tenant, limits_of_key) for tenant in tenants])
        async with AsyncExitStack() as stack:
            limits = StoreLimits(life.ttl_seconds)
            clock = Clock(self.wall, self.loop.time)
            store = await VideoStore.open(folder, limits, self.disk, clock)
            stack.push_async_callback(store.close)
            seed = int(self.loop.time() * 1000)
            self.decoder = SimulatedDecoder(
                self.loop,
                Draws(self.plan.seed, 9, seed),
                self.trace,
                self.disk.read,
                has_keys=self.plan.has_keys,
            )
            decoder = cast(DecodePool, self.decoder)
            engine = EngineClient(lambda _: [], _RULE, self.machine.launch)
            stack.push_async_callback(engine.stop)
            engine.begin()
            admission = Admission.of(settings, keys)
            features = VideoFeatures(engine, decoder, metrics, admission.rates)
            flow = ChatFlow(engine, features, admission, metrics, REQUEST_SECONDS)
            ahead = EncodeAhead(engine, features, metrics, is_on=life.ahead)
            await stack.enter_async_context(ahead.running())
            await stack.enter_async_context(expiring(store, ahead.forget))
            yield Services(
                settings=settings,
                metrics=metrics,
                store=store,
                fetcher=Fetcher(settings, lambda: True, Lookups()),
                batches=cast(BatchStore, None),
                decoder=decoder,
                engine=engine,
                features=features,
                ahead=ahead,
                admission=admission,
                flow=flow,
                live=LivePlaces(settings, keys),
                started_at=0,
            )


def run(plan: Plan) -> World:
    """The world after a plan was carried out."""
    logging.disable(logging.CRITICAL)
    gc.disable()
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    try:
        world = World(plan)
        world.run(folder)
    finally:
        shutil.rmtree(folder)
        logging.disable(logging.NOTSET)
        gc.enable()
    return world
