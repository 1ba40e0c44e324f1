"""What a question about a video would take, and whether it fits, before anything is decoded."""

import asyncio
from collections.abc import Sequence
from typing import Literal, cast

from fastapi import APIRouter, Request

from bt_model.types import MAX_VIDEOS, ModelCard
from bt_model.video.sample import rounding_warnings
from server.bodies.estimate import (
    EstimateBody,
    EstimatedDecode,
    EstimatedFrames,
    EstimatedTokens,
    EstimatedVideo,
    EstimateObject,
    EstimateProblem,
    WouldFit,
)
from server.bodies.facts import FactsObject
from server.bodies.receipts import ReceiptSampling
from server.bodies.video_part import VideoPart
from server.deps import Services, ServicesDep, Tenant
from server.features.clips import ShownClip, distinct, too_many_videos
from server.features.estimate import Estimator, PlannedClip, QuestionEstimate
from server.features.keys import shown
from server.log.request import note
from server.routes.errors import errors
from server.routes.json_body import JsonRoute
from server.streams.reader import while_connected
from server.uploads.sources import UploadedVideo, find_video

router = APIRouter(prefix="/v1/video", tags=["videos"], route_class=JsonRoute)

_GIGA = 1e9
_ERRORS = errors(400, 404, 408, 410, 413, 415, 422, 429, 503, 504)


@router.post("/estimate", response_model_exclude_unset=True, responses=_ERRORS)
async def estimate(
    body: EstimateBody, request: Request, services: ServicesDep, tenant: Tenant
) -> EstimateObject:
    """Frames, tokens and time of a question, and what would let it fit; no frame is decoded, no model run."""
    model, said = services.engine.resolve(body.model), body.conversation()
    clips = await _clips(said.videos, services, tenant)
    note(model=model, video=",".join({clip.source.name: None for clip in clips}))
    async with asyncio.timeout(services.settings.request_seconds):
        card = await while_connected(request, services.engine.open(model))
        estimator = Estimator(services.engine, services.decoder, services.features, services.metrics, card)
        work = estimator.estimate(
            distinct(clips, [card]), said.turns, body.max_tokens, is_asked=body.is_asked
        )
        found = await while_connected(request, work)
    return _object(found, card, body.max_tokens)


async def _clips(parts: Sequence[VideoPart], services: Services, tenant: str) -> list[ShownClip]:
    """Raises InvalidValueError for more different videos than any model takes."""
    sources: dict[str, UploadedVideo] = {}
    clips: list[ShownClip] = []
    for part in parts:
        if part.url not in sources:
            if len(sources) == MAX_VIDEOS:
                raise too_many_videos(MAX_VIDEOS + 1, f"{MAX_VIDEOS} are allowed", part.param)
            sources[part.url] = await find_video(services.store, tenant, part.url, part.param)
        clips.append(ShownClip(sources[part.url], part.sampling, part.place, part.param))
    return clips


def _object(found: QuestionEstimate, card: ModelCard, max_tokens: int | None) -> EstimateObject:
    error = found.obstacles[0].error if found.obstacles else None
    length = found.length
    return EstimateObject(
        object="video.estimate",
        model=card.id,
        fits=error is None,
        problem=error and EstimateProblem(message=error.message, code=error.code, param=error.param),
        would_fit=[WouldFit(**fields) for obstacle in found.obstacles for fields in obstacle.helps],
        tokens=length
        and EstimatedTokens(
            video=length.video,
            text=length.text,
            prompt=None if length.text is None else length.known,
            max_tokens=max_tokens,
            room=max(card.max_context - length.known, 0),
            context=card.max_context,
        ),
        videos=[_video(each) for each in found.clips],
    )


def _video(planned: PlannedClip) -> EstimatedVideo:
    plan = planned.plan
    return EstimatedVideo(
        video=planned.clip.source.name,
        cache=cast(Literal["hit", "joined", "miss"], planned.cache),
        frames=EstimatedFrames(
            count=plan.num_frames,
            indices=list(plan.indices),
            timestamps=[round(seconds, 6) for seconds in plan.timestamps],
        ),
        sampling=ReceiptSampling(**shown(planned.clip.sampling, plan.num_frames)),
        warnings=[*plan.facts.warnings, *rounding_warnings(plan.num_frames, plan.num_wanted)],
        decode=EstimatedDecode(gigapixels=plan.num_pixels / _GIGA, seconds_allowed=plan.allowed_seconds),
        facts=FactsObject.of(plan.facts),
    )
