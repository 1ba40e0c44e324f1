"""The models that answer, in OpenAI's shape."""

from fastapi import APIRouter

from server.deps import Card, ServicesDep, check_model
from server.schemas import ModelObject, ModelPage

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("")
async def list_models(card: Card, services: ServicesDep) -> ModelPage:
    """All models."""
    return ModelPage(data=[ModelObject.of(card, services.started_at)])


@router.get("/{model_id:path}")
async def show_model(model_id: str, card: Card, services: ServicesDep) -> ModelObject:
    """One model; names may hold slashes."""
    check_model(model_id, card)
    return ModelObject.of(card, services.started_at)
