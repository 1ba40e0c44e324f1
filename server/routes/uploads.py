"""Uploads: a video in, raw, as a form's file, a data URL or by its address, an id out."""

import re
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, nullcontext
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from bt_model.video.formats import CODECS, accepted_containers
from server.bodies.link import JSON, Link, LinkBody, link_or_file
from server.bodies.own import FILENAME, MAX_NAME_CHARACTERS, Filename
from server.bodies.uploads import Deleted, RemovedObject, VideoObject, VideoPage
from server.decoding.futures import finished
from server.deps import Services, ServicesDep, Tenant
from server.log.request import note
from server.routes.errors import errors
from server.streams.reader import while_connected
from server.uploads.catalog import Order
from server.uploads.form import FIELD, FORM, FormVideo
from server.uploads.receive import Received
from server.uploads.rows import StoredVideo, Terms
from server.uploads.sources import UploadedVideo

router = APIRouter(prefix="/v1/video/uploads", tags=["videos"])

MAX_PAGE = 100
"""Videos of one answer: a page costs some milliseconds of the event loop."""

DIGEST = "^[0-9a-f]{64}$"
BYTES = {"type": "string", "format": "binary", "minLength": 1}
_MAX_LIFE = 10 * 365 * 86_400
Life = Annotated[
    int | None, Query(ge=1, le=_MAX_LIFE, description="seconds until it is deleted, unless others are before")
]
Wait = Annotated[
    bool,
    Query(description="answer when the tokens of the default model and sampling are there, or cannot be"),
]
_FIELDS = {
    "type": "object",
    "properties": {FIELD: BYTES},
    "required": [FIELD],
    "additionalProperties": False,
}
Name = Annotated[
    str,
    Path(
        # OpenAPI takes paths for the same that differ in the names of their parameters alone
        alias="video_id",
        max_length=MAX_NAME_CHARACTERS,
        pattern=FILENAME.pattern,
        description="the file's name; shown, never used as a path",
    ),
]
_BODY: dict[str, dict[str, Any]] = {
    "requestBody": {
        "description": f"A video or a picture: {accepted_containers()}; codecs: {', '.join(CODECS)}.",
        "required": True,
        "content": {
            "application/octet-stream": {"schema": BYTES},  # any type does; this one, clients can send
            FORM: {"schema": _FIELDS},
            JSON: {"schema": LinkBody.model_json_schema()},
        },
    }
}


_STORED = errors(400, 408, 413, 415, 422, 429, 503, 507)
_RAW = {
    "requestBody": {
        "description": _BODY["requestBody"]["description"],
        "required": True,
        "content": {"application/octet-stream": {"schema": BYTES}},
    }
}


@router.post("", openapi_extra=_BODY, responses=_STORED)
async def upload(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: Tenant,
    filename: Filename = "",
    expires_after: Life = None,
    wait: Wait = False,
) -> VideoObject:
    """Store a video. It is probed before the response; bytes that are there already keep their id."""
    video = await _received(request, services, tenant, filename, expires_after)
    return await _created(request, response, services, video, is_waited_for=wait)


async def _received(
    request: Request, services: Services, tenant: str, filename: str, expires_after: int | None
) -> StoredVideo:
    """The video that the body is, holds or names, stored. Raises as `keep` and the fetcher."""
    terms = Terms(seconds=expires_after)
    async with AsyncExitStack() as stack:

        async def receive(content: AsyncGenerator[bytes]) -> Received:
            return await stack.enter_async_context(services.store.receiving(content, tenant))

        sent = await link_or_file(request, receive)
        if isinstance(sent, Link):
            name = filename or sent.body.filename or ""
            if sent.received is None:
                return await _fetched(request, services, tenant, sent.body.url, name, terms)
            return await keep(request, services, sent.received, tenant, name, terms)
    form = FormVideo.announced(request.headers.get("content-type", ""))
    body = form.content(sent) if form else sent
    declared = 0 if form else int(request.headers.get("content-length", 0))  # a form's is not its file's
    async with services.store.receiving(body, tenant, declared) as received:
        name = filename or (form.filename if form else "")
        return await keep(request, services, received, tenant, name, terms)


@router.put("", openapi_extra=_RAW, responses=_STORED)
async def put_upload(
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: Tenant,
    filename: Filename = "",
    expires_after: Life = None,
    wait: Wait = False,
) -> VideoObject:
    """Store a video, which is the body."""
    declared = int(request.headers.get("content-length", 0))
    async with services.store.receiving(request.stream(), tenant, declared) as received:
        terms = Terms(seconds=expires_after)
        video = await keep(request, services, received, tenant, filename, terms)
    return await _created(request, response, services, video, is_waited_for=wait)


@router.put("/{video_id}", openapi_extra=_RAW, responses=_STORED)
async def put_named_upload(
    name: Name,
    request: Request,
    response: Response,
    services: ServicesDep,
    tenant: Tenant,
    expires_after: Life = None,
    wait: Wait = False,
) -> VideoObject:
    """Store a video under a name that is shown, as `curl -T` sends it; each PUT is an upload of its own."""
    return await put_upload(request, response, services, tenant, name, expires_after, wait)


async def _created(
    request: Request, response: Response, services: Services, video: StoredVideo, *, is_waited_for: bool
) -> VideoObject:
    response.headers["location"] = f"{router.prefix}/{video.id}"
    return await _shown(request, services, video, is_waited_for=is_waited_for)


async def _shown(
    request: Request, services: Services, video: StoredVideo, *, is_waited_for: bool
) -> VideoObject:
    """An upload as it is now, or when its tokens are there. Raises ClientDisconnect, UnknownNameError."""
    readiness = services.ahead.readiness(video.tenant, video.sha256)
    if is_waited_for and readiness.status != "error":
        source, seconds = UploadedVideo(video, services.store), services.settings.request_seconds
        readiness = await while_connected(request, services.ahead.wait(source, seconds))
    return VideoObject.of(video, readiness)


async def _fetched(
    request: Request, services: Services, tenant: str, url: str, name: str, terms: Terms
) -> StoredVideo:
    """Fetch a video and store it, unless its client leaves. Raises as `Fetcher.content` and `keep`."""
    async with aclosing(services.fetcher.content(url, "url", tenant)) as body, AsyncExitStack() as stack:
        entering = stack.enter_async_context(services.store.receiving(body, tenant))
        return await keep(request, services, await while_connected(request, entering), tenant, name, terms)


async def keep(
    request: Request,
    services: Services,
    received: Received,
    tenant: str,
    name: str,
    terms: Terms | None = None,
) -> StoredVideo:
    """Probe what was received and store it, unless its client leaves while it waits for a decoder.

    Raises:
        ClientDisconnect: the client left.
        VideoError: it is no video that can be decoded.
        Problem: it cannot be stored.
    """
    probed = await while_connected(request, finished(services.decoder.probe(received.path, owner=tenant)))
    services.metrics.demuxed(probed)
    video = await services.store.add(received, tenant, name, probed.facts, probed.index, terms)
    services.metrics.uploaded(video.num_bytes)
    note(
        video=video.id, video_bytes=video.num_bytes, file_name=name if services.settings.log_details else None
    )
    services.ahead.submit(UploadedVideo(video, services.store))
    return video


@router.get("", responses=errors(400, 404, 503))
async def list_uploads(
    services: ServicesDep,
    tenant: Tenant,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 20,
    order: Order = "desc",
    sha256: Annotated[
        str | None, Query(pattern=DIGEST, description="of the bytes: one upload or none")
    ] = None,
) -> VideoPage:
    """Uploads by time of arrival, by default the newest first; with `sha256` that of these bytes, if any."""
    if sha256 is None:
        videos = await services.store.page(tenant, after, limit + 1, order)
    else:
        found = await services.store.find_bytes(tenant, sha256)
        videos = [found] if found else []
    data = [VideoObject.of(video, services.ahead.readiness(tenant, video.sha256)) for video in videos]
    return VideoPage.of(data, limit)


@router.head("/{video_id}", name="find_upload", responses=errors(400, 404, 410, 429, 503))
@router.get("/{video_id}", responses=errors(400, 404, 410, 429, 503))
async def show_upload(
    video_id: str,
    request: Request,
    services: ServicesDep,
    tenant: Tenant,
    wait: Wait = False,
) -> VideoObject:
    """One upload, by its id or the SHA-256 of its bytes."""
    video = None
    if re.fullmatch(DIGEST, video_id):
        video = await services.store.find_bytes(tenant, video_id)
    video = video or await services.store.get(tenant, video_id, param="video_id")
    with services.admission.enter(tenant) if wait else nullcontext():
        return await _shown(request, services, video, is_waited_for=wait)


@router.delete("/{video_id}", responses=errors(400, 404, 503, 507))
async def delete_upload(
    video_id: str,
    services: ServicesDep,
    tenant: Tenant,
    keep: Annotated[
        Literal["tokens"] | None, Query(description="what stays: questions that need nothing else go on")
    ] = None,
) -> Deleted:
    """Delete an upload and what was computed from it, or its file alone; answers in progress may finish."""
    video = await services.store.get(tenant, video_id, param="video_id")
    if keep is not None:
        removed = await services.store.forget_pixels(video)
        services.ahead.forget_pixels(tenant, video.sha256)
        return Deleted(id=video.id, deleted=False, removed=RemovedObject.of(removed))
    removed = await services.store.delete(video)
    if removed.is_last:
        services.ahead.forget(tenant, video.sha256)
    return Deleted(id=video.id, deleted=True, removed=RemovedObject.of(removed))
