"""A video by its address: `{"url": "https://…"}` in place of the file itself."""

from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from typing import Annotated, Self

from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from server.bodies.own import Body, Filename
from server.fetching.fetcher import Fetcher
from server.problems import Problem

JSON = "application/json"
_MAX_BODY_BYTES = 16 * 1024


class LinkBody(Body):
    """A video that is fetched. An error of a bound would show the address, with what is secret in it."""

    url: Annotated[str, Field(description="https://… of a public host")]
    filename: Filename = ""


class LinkedVideo:
    """The file behind an address, as it arrives; `filename` is the body's, known once bytes come."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.filename = ""
        self._fetcher = fetcher

    @classmethod
    def announced(cls, content_type: str, fetcher: Fetcher) -> Self | None:
        """The address that a Content-Type announces; None where the body is anything else."""
        return cls(fetcher) if content_type.partition(";")[0].strip().lower() == JSON else None

    async def content(self, body: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
        """The bytes that the host sends.

        Raises:
            RequestValidationError: a body that is something else.
            Problem, InvalidValueError: as `Fetcher.content`, and of a body that is too long.
        """
        given = bytearray()
        async for chunk in body:
            given += chunk
            if len(given) > _MAX_BODY_BYTES:
                text = f"the body is too large; at most {_MAX_BODY_BYTES} bytes of {JSON} are allowed here"
                raise Problem(413, text, code="body_too_large", param="body")
        try:
            link = LinkBody.model_validate_json(bytes(given))
        except ValidationError as error:
            found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
            raise RequestValidationError(found) from error
        self.filename = link.filename
        async with aclosing(self._fetcher.content(link.url, "url")) as chunks:
            async for chunk in chunks:
                yield chunk
