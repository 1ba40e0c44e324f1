"""A model's input frames and pooled tokens of a video, without a question."""

import asyncio
import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from bt_model.types import ModelCard, Sampling
from server.bodies.facts import FactsObject
from server.bodies.own import TokensBody, VideoBody
from server.bodies.receipts import ReceiptSampling
from server.bodies.seen import FrameObject, FramesObject, TokensObject
from server.decoding.futures import finished
from server.deps import Services, ServicesDep, Tenant
from server.engine.replies import TokenFile
from server.features.clips import EncodedClip, ShownClip, prepare_all
from server.features.keys import check_frames, for_models
from server.features.receipt import EncodedVideo, frame_facts, receipt_of
from server.log.request import note
from server.routes.errors import errors
from server.routes.json_body import JsonRoute
from server.streams.reader import while_connected
from server.streams.timing import server_timing
from server.uploads.sources import UploadedVideo, find_video

router = APIRouter(prefix="/v1/video", tags=["videos"], route_class=JsonRoute)

_ERRORS = errors(400, 404, 408, 410, 413, 415, 422, 429, 503, 504)
_SAFETENSORS = "application/octet-stream"
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {_SAFETENSORS: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post("/frames", responses=_ERRORS)
async def show_frames(
    body: VideoBody, request: Request, response: Response, services: ServicesDep, tenant: Tenant
) -> FramesObject:
    """Thumbnails of exactly the model's input frames."""
    model = services.engine.resolve(body.model)
    video = await find_video(services.store, tenant, body.video)
    asked = body.chosen()
    note(model=model, video=video.name)
    card = await _opened(services, request, model)
    sampling = for_models(asked, [card])
    check_frames(sampling.num_frames or 0, sampling, card)
    services.admission.rates.require_video(tenant)
    async with video.reading() as file:
        size, default = card.frame_size, card.default_frames
        work = services.decoder.thumbnails(file.path, sampling, size, default, owner=tenant, index=file.index)
        shown = await while_connected(request, finished(work))
    services.admission.rates.spend_video(tenant, shown.facts.seconds)
    services.metrics.decoded(shown)
    await services.features.learn(video, shown)
    check_frames(shown.num_frames, sampling, card)
    response.headers.update(server_timing({"decode": shown.seconds}))
    frames = zip(shown.indices, shown.timestamps, shown.jpegs, strict=True)
    facts = frame_facts(shown, sampling)
    return FramesObject(
        video=video.name,
        num_frames=shown.num_frames,
        sampling=ReceiptSampling(**facts["sampling"]),
        warnings=facts["warnings"],
        reader=shown.reader,
        frames=[
            FrameObject(index=index, timestamp=seconds, image=_data_url(jpeg))
            for index, seconds, jpeg in frames
        ],
        facts=FactsObject.of(shown.facts),
    )


@router.post("/tokens", response_model=TokensObject, responses=_FILE | _ERRORS)
async def show_tokens(
    body: TokensBody,
    request: Request,
    services: ServicesDep,
    tenant: Tenant,
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Pooled tokens as a safetensors file, or as JSON if `format` or the Accept header asks for it."""
    model = services.engine.resolve(body.model)
    video = await find_video(services.store, tenant, body.video)
    sampling = body.chosen()
    note(model=model, video=video.name)
    card = await _opened(services, request, model)
    async with asyncio.timeout(services.settings.request_seconds):
        encoded, file = await while_connected(request, _fetched(services, video, sampling, card))
    wants_json = body.format == "json" or (body.format is None and "application/json" in accept)
    timing = server_timing({"decode": encoded.decode_seconds, "encode": encoded.encode_seconds})
    if wants_json:
        return _as_json(card, video.name, encoded, file, timing)
    headers = timing | {
        "x-btchat-shape": ",".join(map(str, file.shape)),
        "x-btchat-dtype": file.dtype,
        "x-btchat-fingerprint": card.fingerprint,
        "x-btchat-warnings": json.dumps(encoded.facts["warnings"]),
    }
    return Response(file.content, media_type=_SAFETENSORS, headers=headers)


async def _opened(services: Services, request: Request, model: str) -> ModelCard:
    """A model's card; waits until the model is loaded."""
    async with asyncio.timeout(services.settings.request_seconds):
        return await while_connected(request, services.engine.open(model))


async def _fetched(
    services: Services, video: UploadedVideo, sampling: Sampling, card: ModelCard
) -> tuple[EncodedVideo, TokenFile]:
    async def fetch(encoded: Sequence[EncodedClip]) -> tuple[EncodedVideo, TokenFile]:
        (each,) = encoded
        return each.video, await services.engine.fetch_tokens(each.video.key)

    clips = [ShownClip(video, sampling)]
    return await (await prepare_all(services.features, clips, [card])).use(card, fetch)


def _as_json(
    card: ModelCard, name: str, encoded: EncodedVideo, file: TokenFile, timing: dict[str, str]
) -> Response:
    tokens = {
        "object": "video.tokens",
        "video": name,
        "shape": list(file.shape),
        "dtype": file.dtype,
        "fingerprint": card.fingerprint,
        "pooling": card.pooling,
        "data": base64.b64encode(file.array).decode(),
        "receipt": receipt_of([(name, encoded)], card),
    }
    return JSONResponse(tokens, headers=timing)


def _data_url(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()
