"""Uploads in pieces, by the protocol tus 1.0.0: https://tus.io/protocols/resumable-upload."""

import base64
import binascii
from collections.abc import AsyncGenerator
from email.utils import formatdate
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from starlette.exceptions import HTTPException

from bt_model.errors import BtchatError, InvalidValueError
from server.bodies.own import FILENAME, MAX_NAME_CHARACTERS
from server.deps import Services, ServicesDep, Tenant
from server.problems import Problem, problem_of
from server.routes.errors import errors
from server.routes.uploads import keep
from server.uploads.rows import Pieces
from server.uploads.store import new_id

PATH = "/v1/video/uploads/resumable"
_VERSION = "1.0.0"
_TUS = {"tus-resumable": _VERSION, "cache-control": "no-store"}
_VIDEO = "x-btchat-video"
_PIECE = "application/offset+octet-stream"


async def _speaking_tus(
    tus_resumable: Annotated[
        str | None, Header(description="the version of the protocol", json_schema_extra={"enum": [_VERSION]})
    ] = None,
) -> AsyncGenerator[None]:
    """Every response says which version of the protocol it speaks, errors too."""
    if tus_resumable != _VERSION:
        text = f"Tus-Resumable is {(tus_resumable or '')[:40]!r}; allowed: {_VERSION}"
        headers = {**_TUS, "tus-version": _VERSION}
        raise Problem(412, text, code="unsupported_protocol", param="Tus-Resumable", headers=headers)
    try:
        yield
    except (BtchatError, HTTPException) as error:
        problem = problem_of(error)
        headers = {**(problem.headers or {}), **_TUS}
        raise Problem(
            problem.status_code, problem.detail, code=problem.code, param=problem.param, headers=headers
        ) from error


router = APIRouter(prefix=PATH, tags=["videos"])
_tus = [Depends(_speaking_tus)]


@router.options("", status_code=204, response_class=Response)
async def describe(services: ServicesDep) -> Response:
    """What of tus is spoken here."""
    offered = {"tus-version": _VERSION, "tus-extension": "creation,expiration,termination"}
    most = {"tus-max-size": str(services.settings.max_upload_bytes)}
    return Response(None, 204, {**_TUS, **offered, **most})


@router.post(
    "",
    status_code=201,
    response_class=Response,
    dependencies=_tus,
    responses=errors(400, 412, 413, 429, 503, 507),
)
async def begin(
    services: ServicesDep,
    tenant: Tenant,
    upload_length: Annotated[int, Header(ge=1, description="bytes of the whole video")],
    upload_metadata: Annotated[str, Header(max_length=4096, description="filename and its base64")] = "",
) -> Response:
    """Begin an upload of so many bytes: Location takes its pieces, and ends in the id of the later video."""
    if upload_length > (most := services.settings.max_upload_bytes):
        text = f"the upload is too large ({upload_length} bytes); at most {most} bytes are allowed"
        raise Problem(413, text, code="body_too_large", param="Upload-Length")
    name = _filename(upload_metadata)
    pieces = await services.store.resumable.begin(new_id(), tenant, upload_length, name)
    return Response(None, 201, {**_headers(services, pieces), "location": f"{PATH}/{pieces.id}"})


@router.head(
    "/{upload_id}",
    response_class=Response,
    dependencies=_tus,
    responses=errors(404, 412, 413, 415, 422, 423, 429, 503, 507),
)
async def show_offset(upload_id: str, request: Request, services: ServicesDep, tenant: Tenant) -> Response:
    """How much has come. An upload that is complete and could not be stored before is stored now."""
    resumable = services.store.resumable
    if (pieces := await resumable.find(tenant, upload_id)) is None:
        video = await services.store.get(tenant, upload_id, param="upload_id")
        num_bytes = str(video.num_bytes)
        offset = {"upload-offset": num_bytes, "upload-length": num_bytes}
        return Response(None, 200, {**_TUS, **offset, _VIDEO: video.id})
    headers = _headers(services, pieces)
    if pieces.is_complete:
        with resumable.turn(upload_id), services.admission.enter(tenant):
            if await resumable.find(tenant, upload_id):  # nobody else did meanwhile
                headers |= await _finish(request, services, pieces)
    return Response(None, 200, headers)


@router.patch(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    dependencies=_tus,
    responses=errors(400, 404, 408, 409, 412, 413, 415, 422, 423, 429, 503, 507),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {_PIECE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def append(
    upload_id: str,
    request: Request,
    services: ServicesDep,
    tenant: Tenant,
    upload_offset: Annotated[int, Header(ge=0, description="bytes that came before")],
) -> Response:
    """The next piece. After the last one the video is probed and stored, before the response."""
    if (kind := request.headers.get("content-type", "")) != _PIECE:
        text = f"Content-Type is {kind[:80]!r}; allowed: {_PIECE}"
        raise Problem(415, text, code="unsupported_media", param="Content-Type")
    resumable = services.store.resumable
    with resumable.turn(upload_id):
        pieces = await resumable.get(tenant, upload_id)
        _check(pieces, upload_offset, int(request.headers.get("content-length", 0)))
        pieces = await resumable.append(pieces, request.stream())
        headers = _headers(services, pieces)
        if pieces.is_complete:
            headers |= await _finish(request, services, pieces)
    return Response(None, 204, headers)


@router.delete(
    "/{upload_id}",
    status_code=204,
    response_class=Response,
    dependencies=_tus,
    responses=errors(404, 412, 423, 503, 507),
)
async def give_up(upload_id: str, services: ServicesDep, tenant: Tenant) -> Response:
    """Delete what has come of an upload that is not whole yet."""
    resumable = services.store.resumable
    with resumable.turn(upload_id):
        await resumable.delete(await resumable.get(tenant, upload_id))
    return Response(None, 204, _TUS)


async def _finish(request: Request, services: Services, pieces: Pieces) -> dict[str, str]:
    """The header that names the video: another than the upload's, if its bytes were here before."""
    async with services.store.resumable.whole(pieces) as received:
        video = await keep(request, services, received, pieces.tenant, pieces.filename)
    return {_VIDEO: video.id}


def _check(pieces: Pieces, offset: int, num_bytes: int) -> None:
    if offset != pieces.received:
        text = f"Upload-Offset is {offset}, and {pieces.received} bytes are here: go on from there"
        headers = {"upload-offset": str(pieces.received), "connection": "close"}
        raise Problem(409, text, code="offset_mismatch", param="Upload-Offset", headers=headers)
    if num_bytes > pieces.num_bytes - offset:
        text = f"the piece has {num_bytes} bytes; at most {pieces.num_bytes - offset} are missing"
        raise Problem(413, text, code="body_too_large", param="body", headers={"connection": "close"})


def _headers(services: Services, pieces: Pieces) -> dict[str, str]:
    end = formatdate(services.store.resumable.end_of(pieces), usegmt=True)
    offset = {"upload-offset": str(pieces.received), "upload-length": str(pieces.num_bytes)}
    return {**_TUS, **offset, "upload-expires": end}


def _filename(metadata: str) -> str:
    """The value of the key `filename` in a list of keys and base64."""
    pairs = (pair.split() for pair in metadata.split(","))
    encoded = next((pair[1] for pair in pairs if pair[:1] == ["filename"] and len(pair) > 1), "")
    try:
        name = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        text = f"the filename is {encoded[:40]!r}; allowed: base64 of UTF-8"
        raise InvalidValueError(text, param="Upload-Metadata") from error
    if len(name) > MAX_NAME_CHARACTERS or not FILENAME.fullmatch(name):
        text = (
            f"the filename is {name[:40]!r}; allowed: at most {MAX_NAME_CHARACTERS} characters, no controls"
        )
        raise InvalidValueError(text, param="Upload-Metadata")
    return name
