"""The bytes of uploads, in ranges if a player asks for them. A client's bytes are never a page of ours."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.responses import FileResponse, MalformedRangeHeader, RangeNotSatisfiable, StreamingResponse

from bt_model.video.formats import FORMATS, HEAD_BYTES, Container, container_of
from server.batches.records import DOCUMENT
from server.deps import Lifetime, ServicesDep, Tenant
from server.problems import Problem
from server.routes.errors import errors
from server.uploads.rows import StoredVideo

router = APIRouter(tags=["videos"])

_UNKNOWN = "application/octet-stream"
_MEDIA: Mapping[Container, str] = {
    "mp4": "video/mp4",
    "matroska": "video/x-matroska",
    "webm": "video/webm",
    "avi": "video/x-msvideo",
    "mpegts": "video/mp2t",
    "mpeg": "video/mpeg",
    "ogg": "video/ogg",
    "asf": "video/x-ms-asf",
    "flv": "video/x-flv",
    "gif": "image/gif",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "pictures": _UNKNOWN,
}
IMMUTABLE = {
    "cache-control": "private, max-age=31536000, immutable",
    "vary": "authorization",
    "x-content-type-options": "nosniff",
}
_ALWAYS = IMMUTABLE | {"content-security-policy": "sandbox; default-src 'none'"}
_JSONL, _RANGES = "application/jsonl", "multipart/byteranges"
_LINES = {"content-type": _JSONL, "cache-control": "private, no-cache"}
_UPLOAD, _OF_FILE = "/v1/video/uploads/{video_id}/content", "/v1/files/{file_id}/content"


def _responses(*others: str) -> dict[int | str, dict[str, Any]]:
    """Of a file of any of our containers, or one of these types."""
    file = {"schema": {"type": "string", "format": "binary"}}
    whole = dict.fromkeys((_UNKNOWN, *_MEDIA.values(), *others), file)  # clients that are made take the first
    text = "Partial Content: the bytes that Range asks for"
    return {
        200: {"content": whole},
        206: {"content": whole | {_RANGES: file}, "description": text},
        304: {"description": "Not Modified: the client has them"},
        **errors(404, 410, 416, 503),
    }


_RESPONSES, _RESPONSES_OF_FILE = _responses(), _responses(_JSONL)


class _VideoResponse(FileResponse):
    """As its base; a range that there is not is refused in our form, and one that is none is ignored."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:  # RFC 9110, 14.2
            return []
        except RangeNotSatisfiable as error:
            text = f"Range is {http_range[:80]!r}; allowed: within {file_size} bytes, such as bytes=0-1023"
            headers = {"content-range": f"bytes */{file_size}"}
            raise Problem(416, text, code="range_not_satisfiable", param="Range", headers=headers) from error


@router.head(_UPLOAD, name="find_content", response_class=Response, responses=_RESPONSES)
@router.get(_UPLOAD, response_class=Response, responses=_RESPONSES)
async def show_content(
    video_id: str, request: Request, services: ServicesDep, tenant: Tenant, lifetime: Lifetime
) -> Response:
    """The file as it came. Its ETag is its SHA-256; it is there until the response ends."""
    video = await services.store.get(tenant, video_id, param="video_id")
    file = await lifetime.enter_async_context(services.store.reading(video))
    return await _content(video, file.path, request)


@router.head(_OF_FILE, name="find_file_content", response_class=Response, responses=_RESPONSES_OF_FILE)
@router.get(_OF_FILE, response_class=Response, responses=_RESPONSES_OF_FILE)
async def show_file_content(
    file_id: str, request: Request, services: ServicesDep, tenant: Tenant, lifetime: Lifetime
) -> Response:
    """The file as it came; of a batch's output what is written by now."""
    if file_id.startswith(DOCUMENT):
        document = await services.batches.document(tenant, file_id)
        return StreamingResponse(services.batches.content(document), headers=_ALWAYS | _LINES)
    video = await services.store.get(tenant, file_id, param="file_id")
    file = await lifetime.enter_async_context(services.store.reading(video))
    return await _content(video, file.path, request)


async def _content(video: StoredVideo, path: Path, request: Request) -> Response:
    headers = {**_ALWAYS, "etag": f'"{video.sha256}"'}
    if has_etag(request, video.sha256):
        return Response(None, 304, headers)
    container = await asyncio.to_thread(_container, path)
    suffix = FORMATS[container].suffixes.partition(",")[0] if container and container != "pictures" else "bin"
    name = video.filename.replace("\\", "/").rpartition("/")[2] or f"{video.id}.{suffix}"
    media = _MEDIA[container] if container else _UNKNOWN
    return _VideoResponse(path, headers=headers, media_type=media, filename=name)


def has_etag(request: Request, etag: str) -> bool:
    """Whether the client says that it has what bears this tag."""
    told = request.headers.get("if-none-match", "")
    return etag in {each.strip().removeprefix("W/").strip('"') for each in told.split(",")} or told == "*"


def _container(path: Path) -> Container | None:
    with path.open("rb") as file:
        return container_of(file.read(HEAD_BYTES))
