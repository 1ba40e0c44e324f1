"""The configured models, in OpenAI's format."""

from fastapi import APIRouter

from server.bodies.models import ModelObject, ModelPage
from server.deps import Services, ServicesDep
from server.routes.errors import errors

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", responses=errors(503))
async def list_models(services: ServicesDep) -> ModelPage:
    """All models, the default first; does not load any."""
    return ModelPage(data=[_object(services, name) for name in services.engine.models])


@router.get("/{model_id:path}", responses=errors(404, 503))
async def show_model(model_id: str, services: ServicesDep) -> ModelObject:
    """One model; names may hold slashes."""
    return _object(services, services.engine.resolve(model_id))


def _object(services: Services, name: str) -> ModelObject:
    engine = services.engine
    is_loaded = name in engine.loaded
    return ModelObject.of(name, engine.known_card(name), services.started_at, is_loaded=is_loaded)
