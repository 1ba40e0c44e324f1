"""OpenAI's batches: many requests as lines of a file, answered when there is room."""

from typing import Annotated

from fastapi import APIRouter, Query

from bt_model.errors import require
from server.batches.records import ENDPOINTS
from server.bodies.batches import BatchBody, BatchObject, BatchPage
from server.deps import ServicesDep, Tenant
from server.routes.errors import errors
from server.routes.json_body import JsonRoute

router = APIRouter(prefix="/v1/batches", tags=["batches"], route_class=JsonRoute)


@router.post("", responses=errors(400, 404, 408, 413, 429, 503, 507))
async def create_batch(body: BatchBody, services: ServicesDep, tenant: Tenant) -> BatchObject:
    """Begin to answer the lines of a file, each {"custom_id", "method": "POST", "url", "body"}."""
    require(body.endpoint in ENDPOINTS, "endpoint", body.endpoint, ", ".join(ENDPOINTS))
    batch = await services.batches.create(tenant, body.input_file_id, body.endpoint, body.metadata or {})
    return BatchObject.of(batch)


@router.get("", responses=errors(400, 404, 503))
async def list_batches(
    services: ServicesDep,
    tenant: Tenant,
    after: Annotated[str | None, Query(max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> BatchPage:
    """Batches, the newest first."""
    batches = await services.batches.batches(tenant, after, limit + 1)
    return BatchPage.of([BatchObject.of(batch) for batch in batches], limit)


@router.get("/{batch_id}", responses=errors(404, 503))
async def show_batch(batch_id: str, services: ServicesDep, tenant: Tenant) -> BatchObject:
    """How far a batch is."""
    return BatchObject.of(await services.batches.batch(tenant, batch_id))


@router.post("/{batch_id}/cancel", responses=errors(404, 408, 413, 429, 503, 507))
async def cancel_batch(batch_id: str, services: ServicesDep, tenant: Tenant) -> BatchObject:
    """End a batch; requests that are being answered still are, and answers stay."""
    batch = await services.batches.batch(tenant, batch_id)
    return BatchObject.of(batch if batch.is_ended else await services.batches.move(batch, "cancelling"))
