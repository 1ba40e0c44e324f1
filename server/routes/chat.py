"""Questions about a video: our own route and OpenAI's, answered by one flow."""

import time
from contextlib import AsyncExitStack, aclosing
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from server.answers.question import DEFAULT_SAMPLING, Question
from server.answers.several_models import merged
from server.bodies.openai import CompletionBody
from server.bodies.openai_dialogue import bounded_turns, turns_of, video_of
from server.bodies.own import ChatBody
from server.deps import Lifetime, Services, ServicesDep, Tenant
from server.streams.one_model import CompletionShape
from server.streams.reader import EventReader
from server.streams.several_models import PanelShape
from server.streams.sse import AnswerStream
from server.uploads.sources import find_source, find_video

router = APIRouter(prefix="/v1", tags=["chat"])

_CONTENT: dict[str, Any] = {"application/json": {}, "text/event-stream": {}}
_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"description": "An answer", "content": _CONTENT}}


@router.post("/video/chat", response_class=Response, responses=_RESPONSES)
async def chat(
    body: ChatBody, request: Request, services: ServicesDep, tenant: Tenant, lifetime: Lifetime
) -> Response:
    """Answer the last message of a dialogue about one uploaded video, as JSON or as a stream.

    Where `model` is a list, every model answers: one choice for each, from one decode of the video.
    """
    models = tuple(services.engine.resolve(name) for name in body.models())
    turns = bounded_turns([message.turn() for message in body.messages])
    sampling, options = body.sampling.value(), body.options()
    video = await find_video(services.store, tenant, body.video)
    question = Question(tenant, models, turns, options, video, sampling)
    if body.is_panel:
        return await _respond_together(question, request, services, lifetime, is_stream=body.stream)
    usage = True if body.stream else None
    return await _respond(question, request, services, lifetime, stream_usage=usage)


@router.post("/chat/completions", response_class=Response, responses=_RESPONSES)
async def complete(
    body: CompletionBody, request: Request, services: ServicesDep, tenant: Tenant, lifetime: Lifetime
) -> Response:
    """The same for OpenAI's clients; the video is a part of a user message."""
    model = services.engine.resolve(body.model)
    turns, options, part = turns_of(body), body.options(), video_of(body)
    sampling = body.sampling_for(part.sampling) if part else DEFAULT_SAMPLING
    video = await find_source(services.store, tenant, part.url, part.param) if part else None
    question = Question(tenant, (model,), turns, options, video, sampling)
    usage = bool(body.stream_options and body.stream_options.include_usage) if body.stream else None
    return await _respond(question, request, services, lifetime, stream_usage=usage)


async def _respond(
    question: Question,
    request: Request,
    services: Services,
    lifetime: AsyncExitStack,
    *,
    stream_usage: bool | None,
) -> Response:
    """One model's answer, as a stream with or without usage, or whole (None)."""
    (speaker,) = await lifetime.enter_async_context(services.flow.answer(question))
    reader = await lifetime.enter_async_context(EventReader(speaker.events))
    shape = CompletionShape(_new_id(), int(time.time()), speaker.answer, bool(stream_usage))
    if stream_usage is None:
        return JSONResponse(shape.whole(await reader.whole(request)))
    await reader.wait_for_first(request, services.settings.stream_hold_seconds)
    return AnswerStream(reader, shape).response(services.settings)


async def _respond_together(
    question: Question, request: Request, services: Services, lifetime: AsyncExitStack, *, is_stream: bool
) -> Response:
    speakers = await lifetime.enter_async_context(services.flow.answer(question))
    events = await lifetime.enter_async_context(aclosing(merged(speakers)))
    reader = await lifetime.enter_async_context(EventReader(events))
    shape = PanelShape(_new_id(), int(time.time()), [speaker.answer for speaker in speakers])
    if not is_stream:
        return JSONResponse(shape.whole(await reader.whole(request)))
    await reader.wait_for_first(request, services.settings.stream_hold_seconds)
    return AnswerStream(reader, shape).response(services.settings)


def _new_id() -> str:
    return f"chatcmpl-{uuid4().hex}"
