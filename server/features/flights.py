"""From a video and a sampling to tokens in the engine's cache: found there, or decoded and encoded once."""

import asyncio
from asyncio import FIRST_COMPLETED
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial

from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.errors import BtchatError, InvalidValueError, PixelsForgottenError, UnknownNameError
from bt_model.types import ModelCard, Sampling
from server.decoding.futures import finished, on_loop
from server.engine.client import EngineClient
from server.features.kept_samplings import with_samplings
from server.features.keys import check_frames, count_name, feature_key, for_models
from server.features.receipt import Cached, EncodedVideo, frame_facts
from server.features.steps import Report, Stage, WaitStep, ignored
from server.keys.rates import Rates
from server.metrics import Metrics
from server.uploads.sources import VideoSource
from server.uploads.token_folders import source_key

_LOOK_SECONDS = 0.1  # how often it is looked whether a decode child is free


Outcome = EncodedVideo | BtchatError
"""What became of one model's tokens."""


@dataclass(slots=True)
class _Flight:
    """One decode and encode that several requests wait for; cancelled when all of them have left.

    `asked` is done once a question waits for it, and not only one who encodes ahead.
    """

    task: asyncio.Task[dict[bytes, Outcome]] = field(init=False)
    asked: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    reports: list[Report] = field(default_factory=list[Report])
    step: WaitStep = field(default_factory=lambda: WaitStep("lookup"))

    @property
    def is_lost(self) -> bool:
        """Whether it ends, or has ended, in nothing, which its end has yet to tell the others."""
        task = self.task
        return bool(task.cancelling()) or (task.done() and (task.cancelled() or task.exception() is not None))

    def ask(self) -> None:
        if not self.asked.done():
            self.asked.set_result(None)

    def report(self, stage: Stage, num_frames: int = 0, num_wanted: int = 0) -> None:
        self.step = WaitStep(stage, num_frames, num_wanted)
        for each in self.reports:
            each(self.step)


class VideoFeatures:
    """Tokens of videos in the engine's cache."""

    def __init__(self, engine: EngineClient, decoder: DecodePool, metrics: Metrics, rates: Rates) -> None:
        self._engine = engine
        self._decoder = decoder
        self._metrics = metrics
        self._rates = rates
        self._flights: dict[bytes, _Flight] = {}

    @property
    def num_decoders(self) -> int:
        return self._decoder.size

    async def prepare(
        self, source: VideoSource, sampling: Sampling, cards: Sequence[ModelCard], report: Report = ignored
    ) -> dict[str, Outcome]:
        """Make sure that each model's tokens are cached; missing ones need one decode for all models.

        Requests for the same tokens share one decode and encode. A sampling without a number of frames has
        the first model's. A model that cannot take the video has its error in the result.

        Raises:
            VideoError: the video cannot be decoded.
            PixelsForgottenError: there are other tokens, and no file.
            RateLimitError: the key's seconds of video are spent.
            EngineError: the engine is not running.
        """
        sampling = for_models(sampling, cards)
        keys, outcomes = self._keys(source, sampling, cards)
        report(WaitStep("lookup"))
        wanted = {keys[card.id]: card for card in reversed(cards) if card.id in keys}
        flights = self._running(wanted)
        found = await self._find([key for key in wanted if key not in flights])
        flights = {key: flight for key, flight in flights.items() if not flight.is_lost}
        missing = {key: card for key, card in wanted.items() if key not in found}
        flights |= self._running(missing)  # those begun meanwhile, too
        joined = frozenset(flights)
        begun = {key: card for key, card in missing.items() if key not in joined}
        for model, key in keys.items():
            if key in found or key in begun:  # else it is joined
                self._metrics.looked_up(model, is_hit=key in found)
        if begun:
            flights |= dict.fromkeys(begun, self._begin(begun, source, sampling))
        for flight in flights.values():
            flight.ask()
        try:
            found |= await self._land(list({id(each): each for each in flights.values()}.values()), report)
        except UnknownNameError as error:
            if joined:  # who began had deleted his upload
                return await self.prepare(source, sampling, cards, report)
            if isinstance(error, PixelsForgottenError):
                raise with_samplings(error, source, cards, self._decoder.reader) from error
            raise
        for model, key in keys.items():
            outcome = found[key]
            if isinstance(outcome, EncodedVideo) and key in joined:
                outcome = replace(outcome, cache="joined")
            outcomes[model] = outcome
        return outcomes

    async def cached(self, source: VideoSource, sampling: Sampling, card: ModelCard) -> Cached:
        """Whether a model's tokens are there ("hit") or being made ("joined"); of a `for_models` sampling."""
        key = self._key(source, sampling, card)
        if key in self._flights:
            return "joined"
        return "miss" if await self._engine.lookup(key) is None else "hit"

    async def encode_ahead(self, source: VideoSource, card: ModelCard) -> bool:
        """Make the tokens of a model's default sampling before anybody asks; questions go first, or join.

        Returns:
            False where there was nothing to do.

        Raises:
            BtchatError: why there are no tokens.
        """
        sampling = for_models(Sampling(), [card])
        key = self._key(source, sampling, card)
        if await self._engine.lookup(key) is not None or key in self._flights:
            return False
        landed = await self._land([self._begin({key: card}, source, sampling)], ignored)
        if isinstance(error := landed[key], BtchatError):
            raise error
        return True

    async def learn(self, source: VideoSource, decoded: Decoded) -> None:
        """What a decode found out about a video; tokens of before were made of frames counted otherwise."""
        if await source.learn(decoded.facts, decoded.index, is_recounted=decoded.is_recounted):
            self._engine.forget(source_key(source.tenant, source.sha256))

    def forget_pixels(self, tenant: str, sha256: str) -> None:
        """Drop the frames of a video whose tokens are kept."""
        self._decoder.keeper.forget(tenant, sha256)  # files are named so

    def forget(self, tenant: str, sha256: str) -> None:
        """Drop everything that was computed from a deleted video, or is being computed."""
        prefix = source_key(tenant, sha256)
        self._engine.forget(prefix)
        self.forget_pixels(tenant, sha256)
        for key, flight in self._flights.items():
            if key.startswith(prefix):
                flight.task.add_done_callback(lambda _task, key=key: self._engine.forget(key))

    def _keys(
        self, source: VideoSource, sampling: Sampling, cards: Sequence[ModelCard]
    ) -> tuple[dict[str, bytes], dict[str, Outcome]]:
        """Each model's key, or why it cannot take so many frames."""
        keys: dict[str, bytes] = {}
        refused: dict[str, Outcome] = {}
        for card in cards:
            try:
                check_frames(sampling.num_frames or 0, sampling, card)
                keys[card.id] = self._key(source, sampling, card)
            except InvalidValueError as error:
                refused[card.id] = error
        return keys, refused

    def _key(self, source: VideoSource, sampling: Sampling, card: ModelCard) -> bytes:
        return feature_key(source, sampling, card, self._decoder.reader)

    async def _find(self, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
        """The tokens that are cached already."""
        facts = await asyncio.gather(*(self._engine.lookup(key) for key in keys))
        pairs = zip(keys, facts, strict=True)
        return {key: EncodedVideo(key, each, "hit") for key, each in pairs if each is not None}

    def _begin(self, targets: Mapping[bytes, ModelCard], source: VideoSource, sampling: Sampling) -> _Flight:
        flight = _Flight()
        flight.task = asyncio.create_task(self._make(targets, source, sampling, flight))
        flight.task.add_done_callback(lambda task: self._end(flight, task))
        self._flights |= dict.fromkeys(targets, flight)
        return flight

    def _running(self, keys: Iterable[bytes]) -> dict[bytes, _Flight]:
        """Those to wait for."""
        return {
            key: self._flights[key] for key in keys if key in self._flights and not self._flights[key].is_lost
        }

    def _end(self, flight: _Flight, task: "asyncio.Task[dict[bytes, Outcome]]") -> None:
        if not task.cancelled():
            task.exception()  # is seen, also where who waited has left, or has heard of another flight's
        self._drop(flight)

    def _drop(self, flight: _Flight) -> None:
        self._flights = {key: other for key, other in self._flights.items() if other is not flight}

    async def _land(self, flights: Sequence[_Flight], report: Report) -> dict[bytes, Outcome]:
        """Wait for all of these; a flight without waiters is cancelled."""
        landed: dict[bytes, Outcome] = {}
        for flight in flights:
            flight.reports.append(report)
            report(flight.step)
        try:
            for flight in flights:
                landed |= await asyncio.shield(flight.task)
        finally:
            for flight in flights:
                flight.reports.remove(report)
                if not flight.reports and not flight.task.done():
                    self._drop(flight)
                    flight.task.cancel()
        return landed

    async def _let_questions_first(self, flight: _Flight) -> None:
        """A flight that nobody asked for keeps no question waiting, here or in the queue of the decoder."""
        while not flight.asked.done():
            others = [other.task for other in self._flights.values() if other.asked.done()]
            if not others and self._decoder.num_idle:
                return
            await asyncio.wait({flight.asked, *others}, timeout=_LOOK_SECONDS, return_when=FIRST_COMPLETED)

    async def _make(
        self, targets: Mapping[bytes, ModelCard], source: VideoSource, sampling: Sampling, flight: _Flight
    ) -> dict[bytes, Outcome]:
        await self._let_questions_first(flight)
        flight.report("decode")
        sizes = [card.frame_size for card in targets.values()]
        default = next(iter(targets.values())).default_frames
        outcomes: dict[bytes, Outcome] = {}
        self._rates.require_video(source.tenant)
        with ExitStack() as held:  # also by one who leaves while the file is given back
            async with source.reading() as file:
                watched = on_loop(partial(flight.report, "decode"))
                work = self._decoder.decode(
                    file.path, sampling, sizes, default, owner=source.tenant, index=file.index, count=watched
                )
                frames = held.enter_context(await finished(work))
            self._rates.spend_video(source.tenant, frames.facts.seconds)
            self._metrics.decoded(frames)
            await self.learn(source, frames)
            await self._let_questions_first(flight)
            flight.report("encode")
            for size in frames.memories:
                group = {key: card for key, card in targets.items() if card.frame_size == size}
                outcomes |= await self._encode(group, frames, sampling)
        return outcomes

    async def _encode(
        self, targets: Mapping[bytes, ModelCard], frames: Decoded, sampling: Sampling
    ) -> dict[bytes, Outcome]:
        """Encode the frames of one size for all models with this size."""
        outcomes: dict[bytes, Outcome] = {}
        able: dict[str, bytes] = {}
        for key, card in targets.items():
            try:
                check_frames(frames.num_frames, sampling, card)
                able[card.id] = key
            except InvalidValueError as error:
                outcomes[key] = error
        if not able:
            return outcomes
        size = next(iter(targets.values())).frame_size
        shape = (frames.num_frames, size.side, size.side)
        facts = frame_facts(frames, sampling)
        encoding = await self._engine.encode(able, frames.memories[size], shape, facts)
        self._metrics.encoded(encoding.seconds, able.keys() - encoding.failures.keys())
        for model, key in able.items():
            if (error := encoding.failures.get(model)) is not None:
                outcomes[key] = _in_our_words(error, sampling)
            else:
                outcomes[key] = EncodedVideo(key, facts, "miss", frames.seconds, encoding.seconds)
        return outcomes


def _in_our_words(error: BtchatError, sampling: Sampling) -> BtchatError:
    """The model's error about the frame count, with the name of the field that the client sent."""
    if isinstance(error, InvalidValueError):
        return InvalidValueError(error.message, param=count_name(sampling))
    return error
