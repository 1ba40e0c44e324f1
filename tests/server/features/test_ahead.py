"""Uploads that are encoded ahead: every question goes first, or joins."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from bt_model.decoding.decoded import Decoded, FrameMemories
from bt_model.decoding.kept import FrameKeeper
from bt_model.decoding.queue import FrameCount
from bt_model.errors import BtchatError, PartlyDecodedError, UnknownNameError, VideoError
from bt_model.types import ModelCard, Sampling, VideoFacts
from server.engine.replies import ClipEncoding
from server.features.ahead import MAX_WAITING, READY, EncodeAhead, Readiness
from server.features.clips import ShownClip, prepare_all
from server.features.flights import VideoFeatures
from server.features.receipt import EncodedVideo
from server.keys.file import ApiKeys
from server.keys.rates import Rates
from server.metrics import Metrics
from server.uploads.receive import VideoFile
from server.uploads.token_folders import source_key
from tests.fakes import CARD

FACTS = VideoFacts(96, 64, 30, 25.0, 1.2, 0, "h264", "mp4", has_audio=False)
OTHER_SAMPLING = Sampling(num_frames=2)


class HeldDecoder:
    """Decodes when it is told to."""

    reader = "pyav"

    size = 2

    def __init__(self) -> None:
        self.num_idle = 1
        self.keeper = FrameKeeper(0)
        self.asked: dict[str, Future[Decoded]] = {}  # by name of the file
        self.counts: dict[str, FrameCount] = {}

    def decode(self, path: Path, *_: object, owner: str, index: bytes, count: FrameCount) -> Future[Decoded]:
        self.counts[path.name] = count
        return self.asked.setdefault(path.name, Future())

    def finish(self, name: str) -> None:
        memories = FrameMemories({CARD.frame_size: -1})
        memories.close = memories.clear  # no descriptor
        self.asked[name].set_result(Decoded(FACTS, (0, 1), (0.0, 0.1), 2, "pyav", (), memories, 0.1))


class HeldEngine:
    """Remembers what it encoded, in order."""

    def __init__(self) -> None:
        self.card: ModelCard | BtchatError = CARD
        self.loaded: tuple[str, ...] = (CARD.id,)
        self.models: tuple[str, ...] = (CARD.id,)
        self.encoded: list[bytes] = []
        self.forgotten: list[bytes] = []
        self.gate = asyncio.Event()  # of lookups
        self.gate.set()

    async def open(self, model: str) -> ModelCard:
        assert model == CARD.id
        return CARD

    async def lookup(self, key: bytes) -> dict[str, Any] | None:
        await self.gate.wait()
        return {} if key in self.encoded else None

    async def encode(self, targets: dict[str, bytes], *_: object) -> ClipEncoding:
        self.encoded += targets.values()
        return ClipEncoding(0.1, {})

    def forget(self, prefix: bytes) -> None:
        self.forgotten.append(prefix)


@dataclass(frozen=True, slots=True)
class Upload:
    """A source whose file need not be there."""

    name: str
    tenant: str = "me"

    @property
    def sha256(self) -> str:
        return self.name

    async def learn(self, facts: VideoFacts, index: bytes, *, is_recounted: bool) -> bool:
        return False

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[VideoFile]:
        yield VideoFile(Path(self.name), b"")


class Site:
    """All that takes part; uploads have one letter."""

    def __init__(self, *, is_on: bool = True) -> None:
        self.decoder, self.engine, self.metrics = HeldDecoder(), HeldEngine(), Metrics()
        engine, decoder, rates = cast(Any, self.engine), cast(Any, self.decoder), Rates(ApiKeys())
        self.features = VideoFeatures(engine, decoder, self.metrics, rates)
        self.ahead = EncodeAhead(cast(Any, self.engine), self.features, self.metrics, is_on=is_on)

    def upload(self, name: str) -> None:
        self.ahead.submit(Upload(name))

    def ask(self, name: str, sampling: Sampling | None = None) -> "asyncio.Task[EncodedVideo]":
        async def prepare() -> EncodedVideo:
            prepared = await self.features.prepare(Upload(name), sampling or Sampling(), [CARD])
            outcome = prepared[CARD.id]
            assert isinstance(outcome, EncodedVideo)
            return outcome

        return asyncio.create_task(prepare())

    async def decoding(self, *names: str) -> bool:
        """Whether, after all that can be done, exactly these were ever decoded."""
        await until(lambda: self.decoder.asked.keys() >= set(names))
        await settled()
        return list(self.decoder.asked) == list(names)

    def outcomes(self) -> dict[str, float]:
        (family,) = [each for each in self.metrics.registry.collect() if "ahead" in each.name]
        return {s.labels["outcome"]: s.value for s in family.samples if s.name.endswith("_total")}


async def settled() -> None:
    await asyncio.sleep(0.05)  # longer than a hand-over, shorter than the look for a free child


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.005)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    async with site.ahead.running():
        yield site
    assert not site.ahead._tasks  # pyright: ignore[reportPrivateUsage] - nothing waits for ever


async def test_the_first_question_finds_the_tokens(site: Site) -> None:
    site.upload("a")
    assert await site.decoding("a")
    site.decoder.finish("a")
    await until(lambda: site.outcomes() == {"encoded": 1})
    assert (await site.ask("a")).cache == "hit"
    site.upload("a")  # again
    await until(lambda: site.outcomes() == {"encoded": 1, "known": 1})
    assert len(site.engine.encoded) == 1


async def test_a_question_that_comes_meanwhile_joins(site: Site) -> None:
    site.upload("a")
    assert await site.decoding("a")
    asked = site.ask("a")
    await settled()
    site.decoder.finish("a")
    assert (await asked).cache == "joined"
    assert len(site.engine.encoded) == 1


async def test_who_joins_is_told_how_far_it_is_and_how_it_goes_on(site: Site) -> None:
    site.upload("a")
    assert await site.decoding("a")
    site.decoder.counts["a"](3, 8)
    await settled()
    told: list[str] = []
    joined = asyncio.create_task(
        site.features.prepare(Upload("a"), Sampling(), [CARD], lambda step: told.append(str(step)))
    )
    await settled()
    site.decoder.counts["a"](7, 8)
    site.decoder.finish("a")
    await joined
    assert told == ["lookup", "decode 3/8", "decode 7/8", "encode"]


async def test_frames_of_several_videos_are_counted_together(site: Site) -> None:
    told: list[str] = []
    clips = [ShownClip(cast(Any, Upload(name)), Sampling()) for name in "ab"]
    prepared = asyncio.create_task(
        prepare_all(site.features, clips, [CARD], lambda step: told.append(str(step)))
    )
    assert await site.decoding("a", "b")
    for name, num_frames in (("a", 2), ("b", 1), ("a", 4)):
        site.decoder.counts[name](num_frames, 4)
        await settled()
    assert told[-3:] == ["decode 2/4", "decode 3/8", "decode 5/8"]
    site.decoder.finish("a")
    site.decoder.finish("b")
    await prepared


async def test_what_a_question_has_begun_is_not_begun_again(site: Site) -> None:
    asked = site.ask("a")
    assert await site.decoding("a")
    site.upload("a")
    await until(lambda: site.outcomes() == {"known": 1})
    site.decoder.finish("a")
    assert (await asked).cache == "miss"


async def test_nothing_is_decoded_while_a_question_waits(site: Site) -> None:
    asked = site.ask("q", OTHER_SAMPLING)
    assert await site.decoding("q")
    site.upload("a")
    assert await site.decoding("q")
    site.decoder.finish("q")
    await asked
    assert await site.decoding("q", "a")


async def test_nothing_is_decoded_while_no_child_is_free(site: Site) -> None:
    site.decoder.num_idle = 0
    site.upload("a")
    assert await site.decoding()
    site.decoder.num_idle = 1
    assert await site.decoding("a")


async def test_nothing_is_encoded_while_a_question_waits(site: Site) -> None:
    site.upload("a")
    assert await site.decoding("a")
    asked = site.ask("q", OTHER_SAMPLING)
    assert await site.decoding("a", "q")
    site.decoder.finish("a")
    await settled()
    assert site.engine.encoded == []
    site.decoder.finish("q")
    key = (await asked).key
    await until(lambda: len(site.engine.encoded) == 2)
    assert site.engine.encoded[0] == key


async def test_one_that_is_asked_for_while_it_waits_is_decoded_at_once(site: Site) -> None:
    first = site.ask("q", OTHER_SAMPLING)
    assert await site.decoding("q")
    site.upload("a")
    assert await site.decoding("q")
    second = site.ask("a")
    assert await site.decoding("q", "a")
    for name, asked in (("a", second), ("q", first)):
        site.decoder.finish(name)
        await asked


async def test_deleting_an_upload_ends_its_decode(site: Site) -> None:
    site.upload("a")
    site.upload("b")
    assert await site.decoding("a")
    for name in "ab":
        site.ahead.forget("me", name)
    await until(lambda: site.outcomes() == {"cancelled": 2})
    assert site.decoder.asked["a"].cancelled()
    assert await site.decoding("a")
    assert len({key[:32] for key in site.engine.forgotten}) == 2


async def test_deleting_an_upload_spares_the_question_that_has_joined(site: Site) -> None:
    site.upload("a")
    assert await site.decoding("a")
    asked = site.ask("a")
    await settled()
    site.ahead.forget("me", "a")
    await settled()
    site.decoder.finish("a")
    assert (await asked).cache == "joined"


async def test_tokens_that_are_made_after_their_video_was_deleted_are_forgotten(site: Site) -> None:
    question = site.ask("a")
    assert await site.decoding("a")
    site.features.forget("me", "a")
    assert (site.engine.encoded, len(site.engine.forgotten)) == ([], 1)
    site.decoder.finish("a")
    key = (await question).key
    assert site.engine.encoded == [key]
    assert site.engine.forgotten == [source_key("me", "a"), key]


class Deleted(Upload):
    """A source whose file is gone."""

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[VideoFile]:
        raise UnknownNameError("it was deleted", code="video_deleted")
        yield VideoFile(Path(), b"")


async def test_who_joins_a_question_about_a_deleted_upload_has_the_same_bytes_decoded(site: Site) -> None:
    first = asyncio.create_task(site.features.prepare(Deleted("a"), Sampling(), [CARD]))
    second = site.ask("a")
    with pytest.raises(UnknownNameError):
        await first
    assert await site.decoding("a")
    site.decoder.finish("a")
    assert (await second).cache == "miss"


async def test_who_comes_between_the_end_of_a_question_and_what_is_told_of_it_does_not_join(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Callable[[], None]] = []
    drop = site.features._drop  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(site.features, "_drop", lambda flight: told.append(lambda: drop(flight)))
    with pytest.raises(UnknownNameError):
        await site.features.prepare(Deleted("a"), Sampling(), [CARD])
    second = site.ask("a")
    assert await site.decoding("a")
    told[0]()
    site.decoder.finish("a")
    assert (await second).cache == "miss"


async def test_tokens_that_others_gave_up_on_are_made_for_who_wanted_to_join(site: Site) -> None:
    first = site.ask("a")
    assert await site.decoding("a")
    site.engine.gate.clear()
    cards = [CARD, replace(CARD, id="fake/third", fingerprint="d" * 16)]
    second = asyncio.create_task(site.features.prepare(Upload("a"), Sampling(), cards))
    await settled()  # it asks for the other model's tokens
    first.cancel()
    await asyncio.wait({first})
    site.decoder.asked.clear()
    site.engine.gate.set()
    assert await site.decoding("a")
    site.decoder.finish("a")
    outcomes = await asyncio.wait_for(second, 5)
    assert [type(outcomes[card.id]) for card in cards] == [EncodedVideo, EncodedVideo]


async def test_only_a_few_wait_and_one_at_a_time_is_decoded(site: Site) -> None:
    for number in range(MAX_WAITING + 2):
        site.upload(str(number))
        site.upload(str(number))  # the same bytes wait once
    assert await site.decoding("0")
    assert site.outcomes() == {"dropped": 4}


@pytest.mark.parametrize(
    ("error", "line"), [(VideoError("bad"), ""), (RuntimeError("odd"), "an upload was not encoded ahead")]
)
async def test_a_failure_is_counted_and_the_next_goes_on(
    site: Site, error: Exception, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    site.upload("a")
    site.upload("b")
    assert await site.decoding("a")
    site.decoder.asked["a"].set_exception(error)
    assert await site.decoding("a", "b")
    assert site.outcomes() == {"failed": 1}
    assert line in caplog.text
    assert bool(caplog.records) == bool(line)


async def test_a_model_that_was_unloaded_for_others_is_not_loaded_again(site: Site) -> None:
    site.engine.loaded = ("other",)
    site.upload("a")
    await until(lambda: site.outcomes() == {"dropped": 1})
    assert await site.decoding()


async def test_a_server_that_does_not_encode_ahead_does_nothing(site: Site) -> None:
    ahead = EncodeAhead(cast(Any, site.engine), site.features, site.metrics, is_on=False)
    ahead.submit(Upload("a"))
    assert await site.decoding()
    assert site.outcomes() == {}


@pytest.mark.parametrize("is_on", [True, False])
async def test_who_waits_for_the_tokens_has_them_also_where_uploads_are_not_encoded(*, is_on: bool) -> None:
    site = Site(is_on=is_on)
    async with site.ahead.running():
        site.upload("a")
        waiting = asyncio.create_task(site.ahead.wait(Upload("a"), 5))
        assert await site.decoding("a")
        site.decoder.finish("a")
        assert await waiting == READY
        assert (await site.ask("a")).cache == "hit"


async def test_an_upload_is_being_processed_until_its_tokens_are_there(site: Site) -> None:
    assert site.ahead.readiness("me", "a") == READY
    site.upload("a")
    assert site.ahead.readiness("me", "a") == Readiness("processing")
    assert await site.decoding("a")
    site.decoder.finish("a")
    await until(lambda: site.ahead.readiness("me", "a") == READY)


@pytest.mark.parametrize("is_waited_for", [True, False])
async def test_a_file_that_cannot_be_decoded_says_so_until_it_is_deleted(
    site: Site, *, is_waited_for: bool
) -> None:
    expected = Readiness("error", "it is broken")
    waiting = asyncio.create_task(site.ahead.wait(Upload("a"), 5)) if is_waited_for else None
    if waiting is None:
        site.upload("a")
    assert await site.decoding("a")
    site.decoder.asked["a"].set_exception(VideoError("it is broken"))
    await until(lambda: site.ahead.readiness("me", "a") == expected)
    assert waiting is None or await waiting == expected
    assert site.ahead.readiness("other", "a") == READY
    site.ahead.forget("me", "a")
    assert site.ahead.readiness("me", "a") == READY


async def test_an_upload_that_only_had_no_turn_is_not_broken(site: Site) -> None:
    waiting = asyncio.create_task(site.ahead.wait(Upload("a"), 5))
    assert await site.decoding("a")
    site.decoder.asked["a"].set_exception(BtchatError("the queue is full"))
    assert await waiting == Readiness("error", "the queue is full")
    assert site.ahead.readiness("me", "a") == READY


async def test_who_waits_goes_on_with_frames_that_were_not_enough(site: Site) -> None:
    waiting = asyncio.create_task(site.ahead.wait(Upload("a"), 5))
    assert await site.decoding("a")
    site.decoder.asked.pop("a").set_exception(PartlyDecodedError("more time", (0,)))
    assert await site.decoding("a")
    site.decoder.finish("a")
    assert await waiting == READY


async def test_tokens_that_take_longer_than_a_client_waits_are_made_all_the_same() -> None:
    site = Site(is_on=False)
    async with site.ahead.running():
        assert await site.ahead.wait(Upload("a"), 0.05) == Readiness("processing")
        site.decoder.asked.clear()  # that decode was left
        assert await site.decoding("a")
        site.decoder.finish("a")
        await until(lambda: site.ahead.readiness("me", "a") == READY)
        assert (await site.ask("a")).cache == "hit"
