"""Liveness, readiness, version and metrics."""

import asyncio
import platform
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST

from bt_model.errors import EngineError
from bt_model.types import ModelCard
from server.deps import ServicesDep
from server.engine.wire import Stats
from server.problems import BusyError
from server.routes.errors import errors

probes = APIRouter(tags=["health"])  # these need no key
router = APIRouter(tags=["health"])

_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {CONTENT_TYPE_LATEST: {}}}}
_STATS_SECONDS = 1.0
_RETRY_SECONDS = 5.0


@probes.get("/", include_in_schema=False)
async def show_start() -> RedirectResponse:
    """A browser that is sent here finds the documentation."""
    return RedirectResponse("/docs")


@probes.get("/health/live")
@probes.get("/health", name="health")
@probes.get("/ping", name="ping")
async def live() -> dict[str, str]:
    """200 as long as the web process answers."""
    return {"status": "ok"}


@probes.get("/health/ready", responses=errors(503))
async def ready(services: ServicesDep) -> dict[str, str]:
    """200 if the engine has loaded its model and takes questions, else 503 and what it is waited for.

    `storage` is "degraded" while uploads are refused, since the disk is full or failed.
    """
    if not services.engine.is_ready:
        raise BusyError(services.engine.not_ready().message, _RETRY_SECONDS, code="not_ready")
    storage = "degraded" if services.store.is_degraded else "ok"
    return {"status": "ok", "model": services.engine.card.id, "storage": storage}


@router.get("/version", responses=errors(503))
async def show_version(services: ServicesDep) -> dict[str, object]:
    """Versions of everything that affects an answer; `models` are those that are loaded now.

    `ffmpeg` has a version for each library that decodes; `sandbox` is what holds the processes that do.
    """
    engine = services.engine
    card, report = engine.card, services.decoder.report
    loaded = [engine.known_card(name) for name in engine.loaded]
    return {
        "btchat": version("btchat"),
        "python": platform.python_version(),
        "model": card.id,
        "backend": card.backend,
        "fingerprint": card.model_fingerprint,
        "pooling": card.pooling,
        "temporal": card.versions.get("temporal"),
        "decoder": services.settings.decoder,
        "ffmpeg": report.ffmpeg,
        "sandbox": report.sandbox.level,
        "sandbox_reason": report.sandbox.reason,
        "sandbox_parts": report.sandbox.parts,
        "notice": card.notice,
        "versions": card.versions,
        "models": [_facts(each) for each in loaded if each is not None],
    }


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def show_metrics(services: ServicesDep) -> Response:
    """Prometheus text, without the engine's metrics while it does not answer."""
    try:
        stats = await asyncio.wait_for(services.engine.stats(), _STATS_SECONDS)
    except (EngineError, TimeoutError):
        stats = Stats("", {}, {})
    text = services.metrics.render(stats.values, stats.models)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


def _facts(card: ModelCard) -> dict[str, object]:
    """What affects one model's answers; `accepted` are fit checks that failed and were overridden."""
    return {
        "id": card.id,
        "backend": card.backend,
        "fingerprint": card.model_fingerprint,
        "pooling": card.pooling,
        "temporal": card.versions.get("temporal"),
        "device": card.versions.get("device"),
        "dtype": card.versions.get("dtype"),
        "quantise": card.versions.get("quantise"),
        "accepted": card.accepted,
        "notes": card.notes,
        "notice": card.notice,
    }
