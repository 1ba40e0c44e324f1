"""All middleware, in the one order in which it holds. Pure ASGI."""

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from server.keys.file import ApiKeys
from server.middleware.bounds import BodyBounds, BodyPace
from server.middleware.cors import cors_rules
from server.middleware.costs import RequestCost, RequestCosts
from server.middleware.door import Door
from server.middleware.envelope import Envelope
from server.middleware.gate import Gate, allowed_hosts
from server.middleware.head import HeadAsGet
from server.middleware.idempotency import Idempotency
from server.middleware.inline import InlineVideos
from server.middleware.inside import Inside, InsideCalls
from server.middleware.keys import KeyCheck
from server.middleware.sockets import SocketEnvelope
from server.settings import Settings
from server.uploads.form import FORM_BYTES
from server.uploads.parts import PART_BYTES
from server.uploads.receive import BLOCK_BYTES

WITH_VIDEOS_INSIDE = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/video/chat"})


def request_costs(settings: Settings) -> RequestCosts:
    """What bounds and door allow the requests of each path."""
    upload = RequestCost(settings.max_upload_bytes, held_bytes=2 * BLOCK_BYTES)
    return RequestCosts(
        RequestCost(settings.max_json_bytes),
        {
            "/v1/video/uploads": upload,
            "/v1/video/uploads/": upload,  # PUT under a name
            "/v1/video/uploads/resumable/": upload,  # of each that goes on
            "/v1/files": upload,
            "/v1/uploads/*/parts": RequestCost(PART_BYTES + FORM_BYTES, held_bytes=2 * BLOCK_BYTES),
            # without its videos, which go to disk as they come
            **dict.fromkeys(
                WITH_VIDEOS_INSIDE,
                RequestCost(settings.max_chat_bytes, 4 * BLOCK_BYTES, spends_tokens=True),
            ),
        },
    )


def guard(app: FastAPI, settings: Settings, keys: ApiKeys, inside: InsideCalls) -> None:
    """Put everything around an application that lets its requests in; the last is the outermost.

    Raises:
        InvalidValueError: an origin that no browser sends.
    """
    costs = request_costs(settings)
    app.add_middleware(HeadAsGet)
    app.add_middleware(InlineVideos, paths=WITH_VIDEOS_INSIDE, max_bytes=settings.max_json_bytes)
    app.add_middleware(Idempotency, num_tenants=keys.num_tenants)
    app.add_middleware(Door, costs=costs)
    pace = BodyPace(settings.body_idle_seconds, settings.min_body_rate)
    app.add_middleware(BodyBounds, costs=costs, pace=pace)  # what is refused by its length alone is not held
    app.add_middleware(Inside, calls=inside)
    app.add_middleware(KeyCheck, keys=keys.all, wrong_per_minute=settings.wrong_keys_per_minute)
    app.add_middleware(Gate, hosts=allowed_hosts(settings))
    app.add_middleware(Envelope)
    app.add_middleware(SocketEnvelope)
    if settings.cors_origins:  # outermost: a page may read every answer, an error of the envelope as well
        app.add_middleware(CORSMiddleware, **cors_rules(settings.cors_origins))
