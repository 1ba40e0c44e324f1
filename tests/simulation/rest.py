"""What must hold at rest: nothing is lost, nothing is left over."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bt_model.errors import BtchatError
from server.routes import uploads
from server.uploads.token_folders import source_key
from tests.simulation.ledger import DIGESTS, MAX_REQUESTS
from tests.simulation.plan import TENANTS, Action

if TYPE_CHECKING:
    from tests.simulation.clients import Client
    from tests.simulation.world import World

_SETTLE_SECONDS = 3.0
_SWEEP_SECONDS = 61.0
_AUDIT = 1_000_000_000  # numbers of questions that look after the others
_KEY_BYTES = 32
_DESCRIPTORS = Path("/proc/self/fd")


def num_descriptors() -> int:
    """Of this process."""
    return len(list(_DESCRIPTORS.iterdir()))


class Rest:
    """Looks at a world in which nobody asks for anything."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def _expect(self, what: str, got: Any, wanted: Any) -> None:
        if got != wanted:
            self.world.find("something is left over", f"{what}: {got}, not {wanted}")

    async def check(self) -> None:
        """After the last client: a server that serves, and holds nothing that is nobody's."""
        world = self.world
        await asyncio.sleep(
            _SETTLE_SECONDS + _SWEEP_SECONDS
        )  # what a full disk kept goes with the next sweep
        for _ in range(30):
            client, engine = world.services.engine, world.machine.engine
            is_hanging = engine is not None and world.loop.time() < engine.hangs_until
            if client.has_given_up or (client.is_ready and not is_hanging):
                break
            await asyncio.sleep(1.0)
        else:
            world.find("the engine does not come back", "")
        await self._wait_for_quiet()
        self._check_counts()
        self._check_disk()
        if world.services.engine.is_ready:
            self._check_tokens()
            await self._ask_all()
        if world.life is world.plan.lives[-1]:
            await self._delete_all()

    async def _wait_for_quiet(self) -> None:
        """The watchdog asks now and then."""
        for _ in range(5):
            if not self.world.services.engine.num_waiting:
                return
            await asyncio.sleep(0.1)

    def _check_counts(self) -> None:
        services, decoder = self.world.services, self.world.decoder
        self._expect("requests in flight", services.admission.num_running, 0)
        self._expect("bytes of bodies in memory", services.admission.num_bytes, 0)
        self._expect("bytes of bodies on disk", services.store.incoming_bytes, 0)
        self._expect("requests to the engine", services.engine.num_waiting, 0)
        self._expect("files that wait for a child", len(decoder.jobs), 0)
        self._expect("children at work", decoder.size - decoder.num_idle, 0)
        engine = self.world.machine.engine
        if engine is not None and engine.returncode is None:
            self._expect("answers in the engine", (len(engine.answers), engine.num_running), (0, 0))
            self._expect("descriptors in the engine", engine.num_fds, 0)

    def _check_disk(self) -> None:
        world = self.world
        folder = world.services.settings.data_dir
        blobs = world.disk.content(folder / "videos")
        self._expect("temporary files", world.disk.content(folder / "incoming"), {})
        self._expect("open files but for the lock", world.disk.num_open, 1)
        rows = world.disk.files_of_rows()
        if world.services.store.is_degraded:  # a disk that failed again while a file was taken back
            blobs = {name: content for name, content in blobs.items() if name in rows}
        else:
            self._expect("uploads that count", world.services.store.num_videos, len(world.disk.rows()))
        self._expect("stored files", sorted(blobs), sorted(rows))
        self._expect("bytes of stored files", world.services.store.num_bytes, sum(map(len, blobs.values())))
        for name, content in blobs.items():
            if world.digest(content) != name:
                world.find("a stored file is damaged", name)

    def _check_tokens(self) -> None:
        """Tokens are of what is stored, or came inside a question."""
        world = self.world
        engine = world.machine.engine
        assert engine is not None
        owned = {source_key(*source) for source in world.disk.rows() | world.ledger.inlined}
        for key in engine.token_keys():
            if key[:_KEY_BYTES] not in owned:
                world.find("tokens of a deleted video are kept", engine.cache_text(key))

    async def check_uploads(self) -> None:
        """Every upload that was acknowledged is there."""
        world = self.world
        for upload in world.ledger.uploads:
            if world.ledger.may_be_gone(upload):
                continue
            try:
                video = await world.services.store.get(upload.tenant, upload.id)
            except BtchatError as error:
                world.find("an acknowledged upload is lost", f"{upload.which} of {upload.tenant}: {error}")
                return
            path = world.services.settings.data_dir / "videos" / video.sha256
            is_there = upload.may_lack_pixels or world.disk.exists(path)
            if not is_there or video.sha256 != DIGESTS[upload.which]:
                world.find("an acknowledged upload is lost", f"{upload.which} of {upload.tenant}: its file")
                return

    async def _ask_all(self) -> None:
        """Every video that is left can be asked about."""
        from tests.simulation.clients import Client  # noqa: PLC0415 - clients look at rest, too

        world = self.world
        await self.check_uploads()
        number = _AUDIT
        world.ledger.faults.clear()
        for tenant in sorted({upload.tenant for upload in world.ledger.uploads}):
            alive = [each for each in world.ledger.of(tenant) if not each.is_begun]
            for which in range(min(len(alive), 4)):
                number += 1
                action = Action(number, 0.0, "ask", tenant, which, ("sim/first",))
                await asyncio.wait_for(Client(world, action).run(), 20.0)

    async def _delete_all(self) -> None:
        """Nothing remains of uploads that are all deleted: no file, no row, no tokens, no byte."""
        world, services = self.world, self.world.services
        for tenant in TENANTS:
            for video in await services.store.page(tenant, None, 1000, "asc"):
                await uploads.delete_upload(video.id, services, tenant)
        await asyncio.sleep(_SETTLE_SECONDS)
        self._check_disk()
        self._expect("uploads that were deleted", sorted(world.disk.rows()), [])
        if services.engine.is_ready:
            self._check_tokens()

    async def check_end(self, baseline: int) -> None:
        """After a server has stopped."""
        own = asyncio.current_task()
        await asyncio.sleep(1.0)
        others = [task for task in asyncio.all_tasks() if task is not own and not task.done()]
        names = sorted(str(task.get_coro()) for task in others)
        self._expect("tasks", names, [])
        self._expect("descriptors", num_descriptors(), baseline)

    def check_left(self, client: "Client") -> None:
        """Nobody answers a client that has left."""
        world, engine = self.world, self.world.machine.engine
        is_hanging = engine is None or world.loop.time() < engine.hangs_until + 0.1
        if engine is not None and not is_hanging and engine.answers_of(client.question):
            world.find("an answer for a client who has left", client.name)
        if not world.life.ahead:
            wanted = {visit.content for visit in world.ledger.visits.values()}
            if unwanted := set(world.decoder.working.values()) - wanted:
                world.find("a decode for clients who have left", f"{client.name}: {min(unwanted)}")

    def check_limits(self) -> None:
        """What was let in is no more than may be."""
        world = self.world
        if (number := world.services.admission.num_running) > MAX_REQUESTS:
            world.find("too many requests are let in", f"{number}")
        for tenant, number in world.ledger.inside(before=world.loop.time() - 0.25).items():
            if number > world.ledger.most_per_key:
                world.find("too many requests of a key are let in", f"{number} of {tenant}")
