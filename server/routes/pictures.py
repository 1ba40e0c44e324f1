"""Single frames of uploads as pictures that a page may show: `<img src="…/frames/17.jpg?width=320">`."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from bt_model.video.sample import SingleFrame
from server.decoding.futures import finished
from server.deps import Services, ServicesDep, Tenant
from server.routes.content import IMMUTABLE, has_etag
from server.routes.errors import errors
from server.streams.reader import while_connected
from server.uploads.rows import StoredVideo
from server.uploads.sources import UploadedVideo

router = APIRouter(prefix="/v1/video/uploads/{video_id}/frames", tags=["videos"])

MIN_WIDTH, MAX_WIDTH = 16, 1920
_MOST = 2**31 - 1
_JPEG = "image/jpeg"
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {_JPEG: {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "Not Modified: the client has it"},
    **errors(400, 404, 410, 413, 415, 422, 429, 503),
}
Index = Annotated[int, Path(ge=0, le=_MOST, description="of the frame in the whole file, from 0")]
Seconds = Annotated[
    float, Query(ge=0, le=_MOST, allow_inf_nan=False, description="the frame that is on screen then")
]
Width = Annotated[
    int | None,
    Query(ge=MIN_WIDTH, le=MAX_WIDTH, description="in pixels, at most the video's, which it is without this"),
]


@router.head("/at.jpg", name="find_picture_at", response_class=Response, responses=_RESPONSES)
@router.get("/at.jpg", response_class=Response, responses=_RESPONSES)
async def show_picture_at(
    video_id: str, t: Seconds, request: Request, services: ServicesDep, tenant: Tenant, width: Width = None
) -> Response:
    """The picture that a player shows at a time."""
    video = await services.store.get(tenant, video_id, param="video_id")
    return await _picture(request, services, video, SingleFrame(seconds=t), width)


@router.head("/{index}.jpg", name="find_picture", response_class=Response, responses=_RESPONSES)
@router.get("/{index}.jpg", response_class=Response, responses=_RESPONSES)
async def show_picture(
    video_id: str,
    index: Index,
    request: Request,
    services: ServicesDep,
    tenant: Tenant,
    width: Width = None,
) -> Response:
    """One frame as a player shows it, by the index that receipts and `/v1/video/frames` name."""
    video = await services.store.get(tenant, video_id, param="video_id")
    return await _picture(request, services, video, SingleFrame(index), width)


async def _picture(
    request: Request, services: Services, video: StoredVideo, single: SingleFrame, width: int | None
) -> Response:
    """The picture, or that the client has it. Decoding one counts as decoding many does."""
    width = min(width or MAX_WIDTH, MAX_WIDTH, video.facts.width)
    name = f"t{single.seconds:g}" if single.index is None else str(single.index)
    headers = {**IMMUTABLE, "etag": f'"{video.sha256}-{name}-{width}"'}
    if has_etag(request, headers["etag"].strip('"')):
        return Response(None, 304, headers)
    rates = services.admission.rates
    with services.admission.enter(video.tenant):
        rates.count_request(video.tenant)
        rates.require_video(video.tenant)
        async with services.store.reading(video) as file:
            work = services.decoder.picture(file.path, single, width, owner=video.tenant, index=file.index)
            shown = await while_connected(request, finished(work))
        rates.spend_video(video.tenant, shown.facts.seconds)
        services.metrics.decoded(shown)
        await services.features.learn(UploadedVideo(video, services.store), shown)
    return Response(shown.jpegs[0], headers=headers, media_type=_JPEG)
