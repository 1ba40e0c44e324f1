"""A video by its address: `{"url": "https://…"}` in place of the file itself."""

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from bt_model.video.formats import HEAD_BYTES, container_of
from server.bodies.own import Body, Filename
from server.problems import Problem

JSON = "application/json"
_MAX_BODY_BYTES = 16 * 1024


class LinkBody(Body):
    """A video that is fetched. An error of a bound would show the address, with what is secret in it."""

    url: Annotated[str, Field(description="https://… of a public host")]
    filename: Filename = ""


async def link_or_file(request: Request) -> LinkBody | AsyncGenerator[bytes]:
    """The address that is sent in place of a file, or else the body as it comes.

    Some clients call every body JSON, also a video: which it is its first bytes tell.

    Raises:
        RequestValidationError: JSON of something else.
        Problem: more than an address takes.
    """
    body = request.stream()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        return body
    given = bytearray()
    async for chunk in body:
        given += chunk
        if container_of(bytes(given[:HEAD_BYTES])) is not None:
            return _joined(bytes(given), body)
        if len(given) > _MAX_BODY_BYTES:
            text = f"the body is too large; at most {_MAX_BODY_BYTES} bytes of {JSON} are allowed here"
            raise Problem(413, text, code="body_too_large", param="body")
    try:
        return LinkBody.model_validate_json(bytes(given))
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from error


async def _joined(begin: bytes, rest: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    yield begin
    async for chunk in rest:
        yield chunk
