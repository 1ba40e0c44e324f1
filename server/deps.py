"""Dependencies of the routes; whatever can fail with a status fails here, before an answer starts."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Annotated, Protocol, TypedDict, cast

from fastapi import Depends, Request

from bt_model.decoding.pool import DecodePool
from server.admission import Admission
from server.answers.flow import ChatFlow
from server.answers.kept_responses import KeptResponses
from server.batches.store import BatchStore
from server.engine.client import EngineClient
from server.features.ahead import EncodeAhead
from server.features.flights import VideoFeatures
from server.fetching.fetcher import Fetcher
from server.live.places import LivePlaces
from server.metrics import Metrics
from server.settings import Settings
from server.uploads.sources import Inline
from server.uploads.store import VideoStore


@dataclass(frozen=True, slots=True)
class Services:
    """The objects that exist as long as the application."""

    settings: Settings
    metrics: Metrics
    store: VideoStore
    fetcher: Fetcher
    decoder: DecodePool
    engine: EngineClient
    features: VideoFeatures
    ahead: EncodeAhead
    admission: Admission
    flow: ChatFlow
    batches: BatchStore
    live: LivePlaces
    started_at: int
    responses: KeptResponses = field(default_factory=KeptResponses)


class LifespanState(TypedDict):
    """The lifespan's state."""

    services: Services


class _RequestState(Protocol):
    services: Services
    tenant: str
    inline: Mapping[str, Inline]


async def get_services(request: Request) -> Services:
    return cast(_RequestState, request.state).services


async def get_tenant(request: Request) -> str:
    """The caller: by the name of a key or, without one, its digest; `public` where there are no keys."""
    return cast(_RequestState, request.state).tenant


async def get_inline(request: Request) -> Mapping[str, Inline]:
    """The videos inside of the body, by the URLs that stand in their place."""
    return cast(_RequestState, request.state).inline


async def get_lifetime() -> AsyncGenerator[AsyncExitStack]:
    """A stack that is closed when the response is sent or the client has disconnected."""
    async with AsyncExitStack() as stack:
        yield stack


ServicesDep = Annotated[Services, Depends(get_services)]
Tenant = Annotated[str, Depends(get_tenant)]
InlineDep = Annotated[Mapping[str, Inline], Depends(get_inline)]
Lifetime = Annotated[AsyncExitStack, Depends(get_lifetime)]


@dataclass(frozen=True, slots=True)
class RequestContext:
    """A request for an answer, and what belongs to it; all of it ends with `lifetime`."""

    request: Request
    services: ServicesDep
    tenant: Tenant
    inline: InlineDep
    lifetime: Lifetime


RequestContextDep = Annotated[RequestContext, Depends()]
