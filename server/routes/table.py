"""Every route, by resource."""

from fastapi import APIRouter

from server.routes import (
    batches,
    chat,
    content,
    estimate,
    files,
    frames,
    health,
    models,
    parts,
    pictures,
    responses,
    resumable,
    uploads,
)

ROUTERS: tuple[APIRouter, ...] = (
    *(health.probes, health.router, models.router),
    *(resumable.router, uploads.router, content.router, pictures.router),
    *(files.router, parts.router, parts.bodies),
    *(frames.router, estimate.router, chat.router, responses.router, batches.router),
)
