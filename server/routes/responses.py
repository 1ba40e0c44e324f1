"""OpenAI's responses: a dialogue in, a response or its events out, which later requests can go on from."""

from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from bt_model.errors import BtchatError
from server.bodies.response_dialogue import AskedResponse
from server.bodies.response_objects import ResponseObject
from server.bodies.responses import DeletedResponse, ResponsesBody
from server.deps import RequestContextDep, ServicesDep, Tenant
from server.problems import Problem, problem_of
from server.routes.chat import ask
from server.routes.document import RESPONSE_EVENTS, streamed
from server.routes.errors import errors
from server.routes.json_body import JsonRoute
from server.streams.response import ResponseShape

router = APIRouter(prefix="/v1/responses", tags=["chat"], route_class=JsonRoute)

_ERRORS = errors(400, 404, 408, 410, 413, 415, 422, 429, 503, 504, 507)
_RESPONSES = streamed(ResponseObject, RESPONSE_EVENTS, "A response") | _ERRORS


@router.post("", response_class=Response, responses=_RESPONSES)
async def respond(body: ResponsesBody, context: RequestContextDep) -> Response:
    """Answer a dialogue as a response: text, pictures and videos in, text out."""
    kept, tenant = context.services.responses, context.tenant
    earlier = kept.dialogue(tenant, body.previous_response_id) if body.previous_response_id else ()
    asked = AskedResponse.read(body, earlier, partial(kept.message, tenant))

    def finished(response: dict[str, Any]) -> None:
        if body.is_kept:
            kept.keep(tenant, response, None if context.inline else asked.answered(response))

    shape = partial(ResponseShape, asked=body, finished=finished)
    try:
        return await ask(asked.completion(), shape, context)
    except (BtchatError, Problem) as error:
        raise asked.in_own_words(problem_of(error)) from error


@router.get("/{response_id}", response_model=ResponseObject, responses=errors(404))
async def show_response(response_id: str, services: ServicesDep, tenant: Tenant) -> JSONResponse:
    """A response that is kept."""
    return JSONResponse(services.responses.get(tenant, response_id).body)


@router.delete("/{response_id}", responses=errors(404))
async def delete_response(response_id: str, services: ServicesDep, tenant: Tenant) -> DeletedResponse:
    """Forget a response."""
    services.responses.delete(tenant, response_id)
    return DeletedResponse(id=response_id)
