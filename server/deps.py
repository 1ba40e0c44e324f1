"""What a route may ask for; whatever can fail with a status fails here, before an answer starts."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Annotated, Protocol, TypedDict, cast

from fastapi import Depends, Request

from bt_model.errors import UnknownNameError
from bt_model.types import ModelCard
from server.chat_flow import ChatFlow
from server.decoding.pool import DecodePool
from server.engine.client import EngineClient
from server.engine.queue import Admission
from server.metrics import Metrics
from server.settings import Settings
from server.uploads.store import VideoStore
from server.video_features import UploadedVideo, VideoFeatures


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that lives as long as the application."""

    settings: Settings
    metrics: Metrics
    store: VideoStore
    decoder: DecodePool
    engine: EngineClient
    features: VideoFeatures
    admission: Admission
    flow: ChatFlow
    started_at: int


class State(TypedDict):
    """The lifespan's state."""

    services: Services


class _RequestState(Protocol):
    services: Services
    tenant: str


def get_services(request: Request) -> Services:
    return cast(_RequestState, request.state).services


def get_tenant(request: Request) -> str:
    """Who asks: the digest of the key, or `public`."""
    return cast(_RequestState, request.state).tenant


async def get_lifetime() -> AsyncGenerator[AsyncExitStack]:
    """A stack that is closed when the answer is sent or its reader has left."""
    async with AsyncExitStack() as stack:
        yield stack


ServicesDep = Annotated[Services, Depends(get_services)]
Tenant = Annotated[str, Depends(get_tenant)]
Lifetime = Annotated[AsyncExitStack, Depends(get_lifetime)]


def get_card(services: ServicesDep) -> ModelCard:
    """The loaded model; EngineDeadError while there is none."""
    return services.engine.card


Card = Annotated[ModelCard, Depends(get_card)]


async def find_video(services: Services, tenant: str, video_id: str, param: str = "video") -> UploadedVideo:
    """Raises UnknownNameError where this tenant has no such video."""
    return UploadedVideo(await services.store.get(tenant, video_id, param=param), services.store)


def check_model(name: str | None, card: ModelCard) -> None:
    """Raises UnknownNameError for a model that is not the loaded one."""
    if name is not None and name != card.id:
        text = f"no model {name[:80]!r}; available: {card.id}"
        raise UnknownNameError(text, code="model_not_found", param="model")
