"""Query parameters that a route does not have, refused for all routes in one place."""

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from bt_model.errors import InvalidValueError

_SHOWN_CHARACTERS = 40


async def refuse_unknown_query(request: Request) -> None:
    """Dependency of every route of the document.

    Raises:
        InvalidValueError: a query parameter that the route does not declare; nothing is ignored in silence.
    """
    route = request.scope["route"]
    if not (request.query_params and isinstance(route, APIRoute) and route.include_in_schema):
        return
    allowed = _names(route.dependant)
    for name in request.query_params:
        if name not in allowed:
            shown = name[:_SHOWN_CHARACTERS]
            names = ", ".join(allowed) or "none on this route"
            text = f"the query parameter {shown!r} is not known; allowed: {names}"
            raise InvalidValueError(text, code="unknown_parameter", param=shown)


def _names(dependant: Dependant) -> list[str]:
    below = (name for each in dependant.dependencies for name in _names(each))
    return [*(field.alias for field in dependant.query_params), *below]
