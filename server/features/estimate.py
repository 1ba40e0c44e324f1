"""Whether a question about videos fits, and what it would take: from packets and texts, nothing decoded."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bt_model.decoding import wire
from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.errors import BtchatError, ContextLengthError, InvalidValueError
from bt_model.types import ModelCard, Sampling, Turn
from server.decoding.futures import finished
from server.engine.client import EngineClient
from server.features.clips import ShownClip, at_clip, check_count
from server.features.flights import VideoFeatures
from server.features.keys import check_frames
from server.features.receipt import Cached
from server.metrics import Metrics

_NUMBER_OF_FRAMES = frozenset(f"sampling.{name}" for name in ("num_frames", "fps", "max_frames"))


@dataclass(frozen=True, slots=True)
class PlannedClip:
    """A clip whose frames are known, and whether its tokens are there."""

    clip: ShownClip
    plan: Decoded
    cache: Cached


@dataclass(frozen=True, slots=True)
class PromptLength:
    """Tokens of a prompt; `text` is None where the dialogue is not known."""

    video: int
    text: int | None

    @property
    def known(self) -> int:
        return self.video + (self.text or 0)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The error that a question would get; with the fields of any of `helps`, it would not."""

    error: BtchatError
    helps: Sequence[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class QuestionEstimate:
    """What is known of a question; of its obstacles, the first is what it would be told."""

    clips: Sequence[PlannedClip]
    length: PromptLength | None
    obstacles: Sequence[Obstacle]


@dataclass(frozen=True, slots=True)
class Estimator:
    """Estimates for one model."""

    engine: EngineClient
    decoder: DecodePool
    features: VideoFeatures
    metrics: Metrics
    card: ModelCard

    async def estimate(
        self, clips: Sequence[ShownClip], turns: Sequence[Turn], max_tokens: int | None, *, is_asked: bool
    ) -> QuestionEstimate:
        """Of clips as `distinct` gives them, and of a dialogue, whose text counts if it is asked.

        Raises:
            BtchatError: what a question would be told, if no other number of frames, tokens or videos helps.
        """
        taken = clips[: self.card.max_videos]
        of_clips = [await self._planned(clip) for clip in taken]
        planned = [each for each in of_clips if isinstance(each, PlannedClip)]
        obstacles = [each for each in of_clips if isinstance(each, Obstacle)]
        try:
            check_count(clips, self.card)
        except InvalidValueError as error:
            obstacles.insert(0, Obstacle(error, [{"videos": self.card.max_videos}]))
        try:
            length = await self._length(taken, turns, is_asked=is_asked)
        except ContextLengthError as error:  # of a text that is too long to be counted
            return QuestionEstimate(planned, None, [Obstacle(error, []), *obstacles])
        return QuestionEstimate(
            planned, length, [*obstacles, *self._without_room(length, len(taken), max_tokens)]
        )

    async def _planned(self, clip: ShownClip) -> PlannedClip | Obstacle:
        try:
            plan = await self._plan(clip, clip.sampling)
        except InvalidValueError as error:
            if error.param not in _NUMBER_OF_FRAMES or not (helps := await self._fewer(clip)):
                raise
            return Obstacle(at_clip(clip, error, is_alone=True), helps)
        return PlannedClip(clip, plan, await self.features.cached(clip.source, clip.sampling, self.card))

    async def _plan(self, clip: ShownClip, sampling: Sampling) -> Decoded:
        """Raises as a decode of these frames would, and where they are more than the model takes."""
        card, source = self.card, clip.source
        check_frames(sampling.num_frames or 0, sampling, card)
        async with source.reading() as file:
            asked = wire.Request("plan", sampling, (card.frame_size,), card.default_frames, file.index)
            plan = await finished(self.decoder.plan(file.path, asked, owner=source.tenant))
        self.metrics.demuxed(plan)
        await self.features.learn(source, plan)
        check_frames(plan.num_frames, sampling, card)
        return plan

    async def _fewer(self, clip: ShownClip) -> list[dict[str, Any]]:
        """Samplings of fewer frames, or of a shorter window, that were seen to fit."""
        asked, most = clip.sampling, self.card.max_frames
        tries: list[dict[str, Any]] = [{"num_frames": most}]
        if asked.fps is not None:
            end = math.floor(1000 * ((asked.start or 0.0) + most / asked.fps)) / 1000
            tries = [{"max_frames": most}, {"max_frames": None, "end": end}]
        helps: list[dict[str, Any]] = []
        for fields in tries:
            try:
                await self._plan(clip, replace(asked, **fields))
            except InvalidValueError:
                continue
            helps.append({"sampling": fields})
        return helps

    async def _length(
        self, clips: Sequence[ShownClip], turns: Sequence[Turn], *, is_asked: bool
    ) -> PromptLength:
        """Raises ContextLengthError: the text is too long however it is tokenised."""
        self.card.check_length(turns)
        places = [clip.place for clip in clips]
        measured = await self.engine.measure(self.card.id, places, turns)
        text = measured.num_prompt - measured.num_video
        return PromptLength(measured.num_video, text if is_asked else None)

    def _without_room(self, length: PromptLength, num_videos: int, max_tokens: int | None) -> list[Obstacle]:
        """Why the context does not hold prompt and answer, if it does not."""
        context, needed = self.card.max_context, max_tokens or 1
        room = context - length.known
        if room >= needed:
            return []
        helps: list[dict[str, Any]] = []
        if room > 0:
            helps.append({"max_tokens": room})
        if length.text is not None and (most := context - needed - length.video) > 0:
            helps.append({"text_tokens": most})
        of_one = max(length.video // num_videos, 1)
        if 0 < (fewer := (context - needed - (length.text or 0)) // of_one) < num_videos:
            helps.append({"videos": fewer})
        text = (
            f"the prompt has {length.known} tokens ({length.video} of videos) and {needed} are to be "
            f"generated; the context holds {context}"
        )
        return [Obstacle(ContextLengthError(text, param="messages" if room < 1 else "max_tokens"), helps)]
