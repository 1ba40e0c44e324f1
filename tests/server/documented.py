"""An application whose answers are compared with its OpenAPI document."""

import json
import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from jsonschema import Draft202012Validator
from starlette.types import Message, Receive, Scope, Send

from server.problems import CODES, status_on

_JSON = "application/json"
_EVENTS = "text/event-stream"


class Documented:
    """Collects what the document does not tell: errors, and answers that are not as their schema says.

    Of an answer every field must be named, though clients are not told so: a later server may send more.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        document = _closed(app.openapi())
        self._routes = [
            (re.compile(re.sub(r"\{\w+\}", ".+", path)), method.upper(), operation["responses"])
            for path, operations in document["paths"].items()
            for method, operation in operations.items()
        ]
        self._components = document["components"]
        self._validators: dict[str, Draft202012Validator] = {}
        self.undocumented: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, kind, body = 200, "", b""

        async def watch(message: Message) -> None:
            nonlocal status, kind, body
            if message["type"] == "http.response.start":
                status = message["status"]
                kind = dict(message["headers"]).get(b"content-type", b"").decode().partition(";")[0]
            elif kind in (_JSON, _EVENTS):
                body += message.get("body", b"")
            await send(message)

        await self._app(scope, receive, watch)
        path, method = scope["path"].rstrip("/"), scope["method"]
        known = [of for regex, verb, of in self._routes if verb == method and regex.fullmatch(path)]
        if status >= 400:
            self._check_error(method, path, known, status, body)
        elif body and known:
            content = [of[str(status)].get("content", {}) for of in known if str(status) in of]
            self._check_answer(f"{method} {path}", content, kind, body)

    def _check_error(
        self, method: str, path: str, known: list[dict[str, Any]], status: int, body: bytes
    ) -> None:
        named = [code for each, codes in CODES.items() for code in codes if status_on(path, each) == status]
        code = json.loads(body)["error"]["code"] if body else named[0]  # HEAD has none
        if (known and not any(str(status) in of for of in known)) or code not in named:
            self.undocumented.add(f"{method} {path} {status} {code}")

    def _check_answer(self, where: str, content: list[dict[str, Any]], kind: str, body: bytes) -> None:
        schemas = [_data_schema(kind, each[kind]) for each in content if kind in each]
        values = [json.loads(body)] if kind == _JSON else list(_events(body))
        for value in values:
            errors = [next(self._validator(each).iter_errors(value), None) for each in schemas]
            if None not in errors:
                self.undocumented.add(f"{where}: {errors and errors[0]}"[:2000])

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        key = json.dumps(schema)
        if key not in self._validators:
            self._validators[key] = Draft202012Validator({**schema, "components": self._components})
        return self._validators[key]


def _data_schema(kind: str, content: dict[str, Any]) -> dict[str, Any]:
    """Of a body, or of the objects in the events of a stream."""
    if kind == _JSON:
        return content["schema"]
    return content["itemSchema"]["properties"]["data"]["anyOf"][0]["contentSchema"]


def _events(body: bytes) -> Iterator[Any]:
    for line in body.decode().splitlines():
        if line.startswith("data: {"):  # a stream that is left ends anywhere
            try:
                yield json.loads(line.removeprefix("data: "))
            except json.JSONDecodeError:
                return


def _closed(node: Any) -> Any:
    """The same with objects that have no other fields than those named."""
    if isinstance(node, list):
        return [_closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(each) for name, each in node.items()}
    is_object = node.get("type") == "object" and "properties" in node
    return {"additionalProperties": False, **closed} if is_object else closed
