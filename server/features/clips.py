"""The videos of one dialogue: which of them are the same, how many a model takes, and all their tokens."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar

from bt_model.errors import BtchatError, FeaturesMissingError, InvalidValueError, UnknownNameError, VideoError
from bt_model.types import BEGIN, ModelCard, Place, Sampling
from server.features.flights import Outcome
from server.features.keys import canonical, for_models
from server.features.receipt import EncodedVideo
from server.features.steps import Report, WaitStep, ignored
from server.uploads.sources import VideoSource

_OF_VIDEO = (InvalidValueError, UnknownNameError, VideoError)
_T = TypeVar("_T")


class TokenMaker(Protocol):
    """What makes tokens, so many of them at once: of files, or of frames that come live."""

    @property
    def num_decoders(self) -> int: ...

    async def prepare(
        self, source: VideoSource, sampling: Sampling, cards: Sequence[ModelCard], report: Report = ...
    ) -> dict[str, Outcome]:
        """As `VideoFeatures.prepare`."""
        ...


@dataclass(frozen=True, slots=True)
class ShownClip:
    """A video as a dialogue shows it; `param` is where the body has it, for errors."""

    source: VideoSource
    sampling: Sampling
    place: Place = BEGIN
    param: str = "video"


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A clip whose tokens are in the engine's cache."""

    clip: ShownClip
    video: EncodedVideo


def distinct(clips: Sequence[ShownClip], cards: Sequence[ModelCard]) -> list[ShownClip]:
    """As all of these models see them, but those whose frames one before shows: each turn sends all again."""
    first: dict[tuple[str, Sampling], ShownClip] = {}
    for clip in clips:
        sampling = for_models(clip.sampling, cards)
        first.setdefault((clip.source.sha256, canonical(sampling)), replace(clip, sampling=sampling))
    return list(first.values())


def check_count(clips: Sequence[ShownClip], card: ModelCard) -> None:
    """Raises InvalidValueError for more videos than the model takes in a dialogue."""
    if len(clips) > card.max_videos:
        further = clips[card.max_videos]
        raise too_many_videos(card.max_videos + 1, f"{card.id} takes {card.max_videos}", further.param)


def too_many_videos(number: int, allowed: str, param: str) -> InvalidValueError:
    """The refusal of a dialogue's video by its number, which is the first that is one too many."""
    text = (
        f"{param} is video number {number} of the dialogue (another video or window than those before); "
        f"{allowed}: ask one question per video, or use a model that takes several (max_videos of /v1/models)"
    )
    return InvalidValueError(text, code="too_many_videos", param=param)


@dataclass(frozen=True, slots=True)
class PreparedClips:
    """A dialogue's videos and their tokens for some models, which the engine may evict before that."""

    features: TokenMaker
    clips: Sequence[ShownClip]
    outcomes: Sequence[Mapping[str, Outcome]]  # of each clip by model

    async def use(
        self,
        card: ModelCard,
        work: Callable[[Sequence[EncodedClip]], Awaitable[_T]],
        report: Report = ignored,
    ) -> _T:
        """The result of `work` on one model's tokens; where some were evicted meanwhile, made once more.

        Raises:
            BtchatError: why there are no tokens, or what `work` raises.
        """
        try:
            return await work(self._encoded(card))
        except FeaturesMissingError:
            again = await prepare_all(self.features, self.clips, [card], report)
            return await work(again._encoded(card))

    def _encoded(self, card: ModelCard) -> list[EncodedClip]:
        encoded: list[EncodedClip] = []
        for clip, by_model in zip(self.clips, self.outcomes, strict=True):
            outcome = by_model[card.id]
            if isinstance(outcome, BtchatError):
                raise at_clip(clip, outcome, is_alone=len(self.clips) == 1)
            encoded.append(EncodedClip(clip, outcome))
        return encoded


async def prepare_all(
    features: TokenMaker, clips: Sequence[ShownClip], cards: Sequence[ModelCard], report: Report = ignored
) -> PreparedClips:
    """Make sure that each model's tokens of all clips are cached; the first that fails ends the others.

    As many at a time as the decoder can have at work, and one that it can go on with: more of one question
    would only stand in the queue before those of others.

    Raises:
        BtchatError: as `VideoFeatures.prepare`, with the clip's place in the body.
    """
    room = asyncio.Semaphore(features.num_decoders + 1)

    decodes: dict[int, WaitStep] = {}  # how far each is, or was

    def report_all(number: int, step: WaitStep) -> None:
        if step.stage == "decode":
            decodes[number] = step
            step = sum(decodes.values(), WaitStep("decode"))
        report(step)

    async def prepared(number: int, clip: ShownClip) -> dict[str, Outcome]:
        async with room:
            try:
                return await features.prepare(clip.source, clip.sampling, cards, partial(report_all, number))
            except _OF_VIDEO as error:
                raise at_clip(clip, error, is_alone=len(clips) == 1) from error

    return PreparedClips(
        features, clips, await _all(prepared(number, clip) for number, clip in enumerate(clips))
    )


async def _all(work: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def at_clip(clip: ShownClip, error: BtchatError, *, is_alone: bool = False) -> BtchatError:
    """A copy of the error, which other requests may have too, that names the clip."""
    if not isinstance(error, _OF_VIDEO) or (is_alone and error.param is not None):
        return error
    kind = type(error)
    named = kind.__new__(kind, *error.args)  # errors are made of more than their message: `copy` cannot
    vars(named).update(vars(error), param=clip.param)
    return named
