"""OpenAI's /v1/uploads: a file in parts, in any order, several at once."""

import time

from fastapi import APIRouter, Request

from server.bodies.files import CompleteBody, PartObject, UploadBody, UploadObject
from server.deps import Services, ServicesDep, Tenant
from server.problems import Problem
from server.routes.errors import errors
from server.routes.files import announced
from server.routes.json_body import JsonRoute
from server.routes.uploads import BYTES, keep
from server.uploads.form import FORM
from server.uploads.rows import StoredVideo

router = APIRouter(prefix="/v1/uploads", tags=["files"], route_class=JsonRoute)
bodies = APIRouter(prefix="/v1/uploads", tags=["files"])
"""Of routes whose bodies are not read as a whole."""

_FIELD = "data"
_FIELDS = {
    "type": "object",
    "properties": {_FIELD: BYTES},
    "required": [_FIELD],
    "additionalProperties": False,
}
_BODY = {"requestBody": {"required": True, "content": {FORM: {"schema": _FIELDS}}}}


@router.post("", responses=errors(400, 408, 413, 429, 503, 507))
async def begin_upload(body: UploadBody, services: ServicesDep, tenant: Tenant) -> UploadObject:
    """Begin an upload of so many bytes."""
    if body.bytes > (most := services.settings.max_upload_bytes):
        text = f"the file is too large ({body.bytes} bytes); at most {most} bytes are allowed"
        raise Problem(413, text, code="body_too_large", param="bytes")
    pieces = await services.store.parts.begin(tenant, body.bytes, body.filename, body.terms())
    return UploadObject.of(pieces, services.store.resumable.end_of(pieces), "pending")


@bodies.post(
    "/{upload_id}/parts",
    openapi_extra=_BODY,
    responses=errors(400, 404, 408, 413, 415, 429, 503, 507),
)
async def add_part(upload_id: str, request: Request, services: ServicesDep, tenant: Tenant) -> PartObject:
    """One part, in the field `data` of a form; the same bytes are the same part."""
    parts = services.store.parts
    pieces = await parts.get(tenant, upload_id)
    part = await parts.add(pieces, announced(request, _FIELD).content(request.stream()))
    return PartObject(id=part.id, created_at=int(time.time()), upload_id=upload_id)


@router.post("/{upload_id}/complete", responses=errors(400, 404, 408, 413, 415, 422, 423, 429, 503, 507))
async def complete_upload(
    upload_id: str, body: CompleteBody, request: Request, services: ServicesDep, tenant: Tenant
) -> UploadObject:
    """Put the parts together and store the video; once more, it says the same."""
    store = services.store
    with store.resumable.turn(upload_id):
        if (pieces := await store.parts.find(tenant, upload_id)) is None:
            return _completed(services, upload_id, await store.completed(tenant, upload_id))
        async with store.parts.whole(pieces, body.part_ids, body.md5) as received:
            video = await keep(request, services, received, tenant, pieces.filename, pieces.terms)
    return _completed(services, upload_id, video)


@router.post("/{upload_id}/cancel", responses=errors(404, 423, 429, 503, 507))
async def cancel_upload(upload_id: str, services: ServicesDep, tenant: Tenant) -> UploadObject:
    """Delete an upload that is not complete, and its parts."""
    store = services.store
    with store.resumable.turn(upload_id):
        pieces = await store.parts.get(tenant, upload_id)
        await store.resumable.delete(pieces)
    return UploadObject.of(pieces, store.resumable.end_of(pieces), "cancelled")


def _completed(services: Services, upload_id: str, video: StoredVideo) -> UploadObject:
    return UploadObject.completed(upload_id, video, services.ahead.readiness(video.tenant, video.sha256))
