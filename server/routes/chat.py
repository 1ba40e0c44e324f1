"""Questions about a video: our own route and OpenAI's, answered by one flow."""

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from server.chat_flow import DEFAULT_SAMPLING, Question
from server.completions_schema import CompletionBody
from server.deps import Card, Lifetime, Services, ServicesDep, Tenant, check_model, find_video
from server.dialogue import bounded_turns, find_source, turns_of, video_of
from server.schemas import ChatBody
from server.streams.completion import CompletionShape
from server.streams.reader import AnswerReader
from server.streams.sse import AnswerStream

router = APIRouter(prefix="/v1", tags=["chat"])

_CONTENT: dict[str, Any] = {"application/json": {}, "text/event-stream": {}}
_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"description": "An answer", "content": _CONTENT}}


@dataclass(frozen=True, slots=True)
class _Form:
    """How an answer is wanted."""

    is_stream: bool
    include_usage: bool


@router.post("/video/chat", response_class=Response, responses=_RESPONSES)
async def chat(
    body: ChatBody, request: Request, services: ServicesDep, tenant: Tenant, card: Card, lifetime: Lifetime
) -> Response:
    """Answer the last message of a dialogue about one uploaded video, as JSON or as a stream."""
    check_model(body.model, card)
    turns = bounded_turns([message.turn() for message in body.messages])
    sampling, options = body.sampling.value(), body.options()
    video = await find_video(services, tenant, body.video)
    question = Question(tenant, turns, options, video, sampling)
    form = _Form(body.stream, include_usage=True)
    return await _respond(question, form, request, services, lifetime)


@router.post("/chat/completions", response_class=Response, responses=_RESPONSES)
async def complete(
    body: CompletionBody,
    request: Request,
    services: ServicesDep,
    tenant: Tenant,
    card: Card,
    lifetime: Lifetime,
) -> Response:
    """The same for OpenAI's clients; the video is a part of a user message."""
    check_model(body.model, card)
    turns, options, part = turns_of(body), body.options(), video_of(body)
    sampling = body.sampling_for(part.sampling) if part else DEFAULT_SAMPLING
    video = await find_source(services, tenant, part) if part else None
    question = Question(tenant, turns, options, video, sampling)
    usage = bool(body.stream_options and body.stream_options.include_usage)
    return await _respond(question, _Form(bool(body.stream), usage), request, services, lifetime)


async def _respond(
    question: Question, form: _Form, request: Request, services: Services, lifetime: AsyncExitStack
) -> Response:
    answer, events = await lifetime.enter_async_context(services.flow.answer(question))
    reader = await lifetime.enter_async_context(AnswerReader(answer, events))
    card = answer.card
    shape = CompletionShape(f"chatcmpl-{uuid4().hex}", int(time.time()), card.id, card.fingerprint)
    if not form.is_stream:
        text, finished = await reader.whole(request)
        return JSONResponse(shape.whole(text, finished))
    await reader.wait_for_text(request, services.settings.stream_hold_seconds)
    return AnswerStream(reader, shape, form.include_usage).response(services.settings)
