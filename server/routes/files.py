"""OpenAI's /v1/files: the uploads of /v1/video/uploads under the same ids, and JSON lines of batches."""

from functools import partial
from typing import Annotated, get_args

from fastapi import APIRouter, Query, Request, Response

from bt_model.errors import InvalidValueError
from server.batches.records import DOCUMENT, DocumentPurpose
from server.bodies.files import (
    FORM_FIELDS,
    FileDeleted,
    FileObject,
    FilePage,
    FileTerms,
    ListedPurpose,
    Purpose,
)
from server.bodies.link import joined
from server.bodies.uploads import RemovedObject
from server.deps import Services, ServicesDep, Tenant
from server.problems import Problem
from server.routes.errors import errors
from server.routes.uploads import BYTES, MAX_PAGE, keep
from server.uploads.catalog import Order
from server.uploads.form import FIELD, FORM, FormVideo
from server.uploads.rows import Removed, StoredVideo, Terms

router = APIRouter(prefix="/v1/files", tags=["files"])

_BLANK = b"\xef\xbb\xbf \t\r\n"
_FIELDS = {
    "type": "object",
    "properties": {
        FIELD: BYTES,
        "purpose": {"type": "string", "enum": list(get_args(Purpose))},
        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
        "expires_after[seconds]": {"type": "integer", "minimum": 3600, "maximum": 2_592_000},
    },
    "required": [FIELD, "purpose"],
    "dependentRequired": {
        "expires_after[anchor]": ["expires_after[seconds]"],
        "expires_after[seconds]": ["expires_after[anchor]"],
    },
    "additionalProperties": False,
}
_BODY = {"requestBody": {"required": True, "content": {FORM: {"schema": _FIELDS}}}}


@router.post("", openapi_extra=_BODY, responses=errors(400, 408, 413, 415, 422, 429, 503, 507))
async def create_file(
    request: Request, response: Response, services: ServicesDep, tenant: Tenant
) -> FileObject:
    """Store a video, or JSON lines for a batch, as a form with the fields `file` and `purpose`.

    Location of the answer is where it is shown.
    """
    form = announced(request, FIELD, FORM_FIELDS)
    content = form.content(request.stream())
    begin = await anext(content, b"")
    is_lines = bytes(begin).lstrip(_BLANK).startswith(b"{")  # no video begins so
    if "purpose" in form.texts:  # which may also stand behind the file
        _terms(form, is_lines=is_lines)
    if is_lines:
        described = partial(_described, form)
        document = await services.batches.receive(joined(begin, content), tenant, described)
        response.headers["location"] = f"{router.prefix}/{document.id}"
        return FileObject.of_document(document)
    async with services.store.receiving(joined(begin, content), tenant) as received:
        terms = _terms(form, is_lines=False)
        video = await keep(request, services, received, tenant, form.filename, terms)
    response.headers["location"] = f"{router.prefix}/{video.id}"
    return shown(services, video)


@router.get("", responses=errors(400, 404, 503))
async def list_files(
    services: ServicesDep,
    tenant: Tenant,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[
        int, Query(ge=1, le=10_000, description=f"a page has {MAX_PAGE} at most, and says if there are more")
    ] = 10_000,
    order: Order = "desc",
    purpose: Annotated[ListedPurpose | None, Query(description="without it all videos")] = None,
) -> FilePage:
    """Files by time of arrival, by default the newest first."""
    limit = min(limit, MAX_PAGE)
    if purpose is not None and purpose in get_args(DocumentPurpose):
        documents = await services.batches.documents(tenant, purpose, after, limit + 1, order)
        data = [FileObject.of_document(document) for document in documents]
    else:
        videos = await services.store.page(tenant, after, limit + 1, order, purpose)
        data = [shown(services, video) for video in videos]
    return FilePage.of(data, limit)


@router.get("/{file_id}", responses=errors(404, 503))
async def show_file(file_id: str, services: ServicesDep, tenant: Tenant) -> FileObject:
    """One file."""
    if file_id.startswith(DOCUMENT):
        return FileObject.of_document(await services.batches.document(tenant, file_id))
    return shown(services, await services.store.get(tenant, file_id, param="file_id"))


@router.delete("/{file_id}", responses=errors(404, 409, 503, 507))
async def delete_file(file_id: str, services: ServicesDep, tenant: Tenant) -> FileDeleted:
    """Delete a file and what was computed from it; answers in progress may finish."""
    if file_id.startswith(DOCUMENT):
        document = await services.batches.document(tenant, file_id)
        await services.batches.delete_document(document)
        return FileDeleted(id=file_id, removed=RemovedObject.of(Removed(document.num_bytes)))
    video = await services.store.get(tenant, file_id, param="file_id")
    removed = await services.store.delete(video)
    if removed.is_last:
        services.ahead.forget(tenant, video.sha256)
    return FileDeleted(id=video.id, removed=RemovedObject.of(removed))


def _described(form: FormVideo) -> tuple[str, int | None]:
    return form.filename, _terms(form, is_lines=True).seconds


def _terms(form: FormVideo, *, is_lines: bool) -> Terms:
    """What the form says of its file. Raises where its purpose is not one of such a file."""
    terms = FileTerms.of_form(form.texts).terms()
    if (terms.purpose == "batch") != is_lines:
        text = (
            f"purpose is {terms.purpose!r}; allowed: 'batch' for JSON objects, one a line, others for videos"
        )
        raise InvalidValueError(text, param="purpose")
    return terms


def shown(services: Services, video: StoredVideo) -> FileObject:
    """A file as it is now."""
    return FileObject.of(video, services.ahead.readiness(video.tenant, video.sha256))


def announced(request: Request, field: str, others: tuple[str, ...] = ()) -> FormVideo:
    """The form that a request is announced to be. Raises Problem for anything else."""
    kind = request.headers.get("content-type", "")
    if (form := FormVideo.announced(kind, field, others)) is None:
        text = f"Content-Type is {kind[:80]!r}; allowed: {FORM} with the field {field!r}"
        raise Problem(415, text, code="unsupported_media", param="Content-Type")
    return form
