"""OpenAI's /v1/files: the same uploads as those of /v1/video/uploads, under the same ids."""

from collections.abc import AsyncGenerator
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request

from server.bodies.files import FORM_FIELDS, FileDeleted, FileObject, FilePage, FileTerms, Purpose
from server.deps import ServicesDep, Tenant
from server.problems import Problem
from server.routes.errors import errors
from server.routes.uploads import BYTES, MAX_PAGE, keep
from server.uploads.catalog import Order
from server.uploads.form import FIELD, FORM, FormVideo

router = APIRouter(prefix="/v1/files", tags=["files"])

_FIELDS = {
    "type": "object",
    "properties": {
        FIELD: BYTES,
        "purpose": {"type": "string", "enum": list(get_args(Purpose))},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
    "required": [FIELD, "purpose"],
    "additionalProperties": False,
}
_BODY = {"requestBody": {"required": True, "content": {FORM: {"schema": _FIELDS}}}}


@router.post("", openapi_extra=_BODY, responses=errors(400, 408, 413, 415, 422, 429, 503, 507))
async def create_file(request: Request, services: ServicesDep, tenant: Tenant) -> FileObject:
    """Store a video, as a form with the fields `file` and `purpose`."""
    form = announced(request, FIELD, FORM_FIELDS)

    async def checked() -> AsyncGenerator[bytes]:
        """The file, before which a purpose that there is not is refused, if it stands there."""
        is_begun = False
        async for chunk in form.content(request.stream()):
            if not is_begun and "purpose" in form.texts:
                FileTerms.of_form(form.texts)
            is_begun = True
            yield chunk

    async with services.store.receiving(checked(), tenant) as received:
        terms = FileTerms.of_form(form.texts).terms()
        return FileObject.of(await keep(request, services, received, tenant, form.filename, terms))


@router.get("", responses=errors(400, 404, 503))
async def list_files(
    services: ServicesDep,
    tenant: Tenant,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[
        int, Query(ge=1, le=10_000, description=f"a page has {MAX_PAGE} at most, and says if there are more")
    ] = 10_000,
    order: Order = "desc",
    purpose: Annotated[Purpose | None, Query()] = None,
) -> FilePage:
    """Files by time of arrival, by default the newest first."""
    limit = min(limit, MAX_PAGE)
    videos = await services.store.page(tenant, after, limit + 1, order, purpose)
    data = [FileObject.of(video) for video in videos[:limit]]
    return FilePage(
        data=data,
        has_more=len(videos) > limit,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
    )


@router.get("/{file_id}", responses=errors(404, 503))
async def show_file(file_id: str, services: ServicesDep, tenant: Tenant) -> FileObject:
    """One file."""
    return FileObject.of(await services.store.get(tenant, file_id, param="file_id"))


@router.delete("/{file_id}", responses=errors(404, 503, 507))
async def delete_file(file_id: str, services: ServicesDep, tenant: Tenant) -> FileDeleted:
    """Delete a file and what was computed from it; answers in progress may finish."""
    video = await services.store.get(tenant, file_id, param="file_id")
    if await services.store.delete(video):
        services.ahead.forget(tenant, video.sha256)
    return FileDeleted(id=video.id)


def announced(request: Request, field: str, others: tuple[str, ...] = ()) -> FormVideo:
    """The form that a request is announced to be. Raises Problem for anything else."""
    kind = request.headers.get("content-type", "")
    if (form := FormVideo.announced(kind, field, others)) is None:
        text = f"Content-Type is {kind[:80]!r}; allowed: {FORM} with the field {field!r}"
        raise Problem(415, text, code="unsupported_media", param="Content-Type")
    return form
