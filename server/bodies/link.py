"""A video by its address, or as a data URL: `{"url": "…"}` in place of the file itself."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from bt_model.video.formats import HEAD_BYTES, container_of
from server.bodies.inline import InlineJson, Keep
from server.bodies.own import Body, Filename
from server.problems import Problem
from server.uploads.receive import Received
from server.uploads.sources import found_inline, is_data

JSON = "application/json"
_MAX_BODY_BYTES = 16 * 1024


class LinkBody(Body):
    """A video that is fetched, or in its URL. An error of a bound would show what is secret in that."""

    url: Annotated[str, Field(description="https://… of a public host, or a data: URL in base64")]
    filename: Filename | None = ""


@dataclass(frozen=True, slots=True)
class Link:
    """What was sent in place of a file; `received` is what a data URL held, None is still to be fetched."""

    body: LinkBody
    received: Received | None


async def link_or_file(request: Request, keep: Keep[Received]) -> Link | AsyncGenerator[bytes]:
    """The address that is sent in place of a file, or else the body as it comes.

    Some clients call every body JSON, also a video: which it is its first bytes tell.

    Raises:
        RequestValidationError: JSON of something else.
        Problem: no JSON, or more than an address takes.
        BtchatError: what is in a data URL is no video.
    """
    body = request.stream()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        return body
    given = bytearray()
    async for chunk in body:
        given += chunk
        if container_of(bytes(given[:HEAD_BYTES])) is not None:
            return joined(bytes(given), body)
        if len(given) >= HEAD_BYTES:
            break
    inline = InlineJson(joined(bytes(given), body), keep, _MAX_BODY_BYTES)
    try:
        link = LinkBody.model_validate_json(await inline.read())
    except json.JSONDecodeError as error:
        raise Problem(400, f"the body is not JSON: {error.msg}", code="invalid_json") from error
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from error
    return Link(link, found_inline(inline.videos, link.url, "url") if is_data(link.url) else None)


async def joined(begin: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """A body of which the begin was read to see what it is."""
    yield begin
    async for chunk in rest:
        yield chunk
