"""Questions about videos: our own route and OpenAI's, answered by one flow."""

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from uuid import uuid4

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from bt_model.types import MAX_VIDEOS, ModelCard, Sampling
from server.answers.missing_video import video_required
from server.answers.question import Progress, Question
from server.bodies.chat import ChatBody
from server.bodies.completions import Completion
from server.bodies.dialogue import conversation_of
from server.bodies.openai import CompletionBody
from server.bodies.openai_dialogue import messages_of
from server.bodies.video_part import VideoPart
from server.deps import RequestContext, RequestContextDep
from server.features.clips import ShownClip, check_count, distinct, too_many_videos
from server.features.keys import canonical
from server.routes.document import CHUNKS, streamed
from server.routes.errors import errors
from server.routes.json_body import JsonRoute
from server.streams.one_model import CompletionShape
from server.streams.reader import EventReader, while_connected
from server.streams.several_models import ChoicesShape
from server.streams.sse import AnswerStream, Shape
from server.streams.timing import timing_of
from server.uploads.sources import VideoSource, find_source, is_remote, lend

router = APIRouter(prefix="/v1", tags=["chat"], route_class=JsonRoute)

ShapeOf = Callable[[str, int, Sequence[Progress]], Shape]
"""What answers look like, by a random number for ids, the time, and their progress."""

Find = Callable[[VideoPart], Awaitable[VideoSource]]

_RESPONSES = streamed(Completion, CHUNKS, "An answer") | errors(
    400, 404, 408, 410, 413, 415, 422, 429, 503, 504, 507
)


@router.post("/video/chat", response_class=Response, responses=_RESPONSES)
async def chat(body: ChatBody, context: RequestContextDep) -> Response:
    """Answer the last message of a dialogue about videos, as JSON or as a stream.

    Where `model` is a list, every model answers: one choice for each, from one decode of each video.
    """
    services, tenant = context.services, context.tenant
    services.admission.require_room(tenant, body.num_choices, "n")
    models = tuple(services.engine.resolve(name) for name in body.models())
    said, options = conversation_of(body.said()), body.options()
    clips = await _clips(said.videos, partial(_find, context))
    question = Question(tenant, models, said.turns, options, clips, body.fingerprint)
    include_usage = body.stream_options is None or body.stream_options.include_usage is not False
    usage = {"include_usage": include_usage, "continuous_usage": body.continuous_usage}
    one = partial(CompletionShape, **usage)
    shape = ChoicesShape if isinstance(body.model, list) else one
    return await _respond(question, shape, context, is_stream=bool(body.stream))


@router.post("/chat/completions", response_class=Response, responses=_RESPONSES)
async def complete(body: CompletionBody, context: RequestContextDep) -> Response:
    """The same for OpenAI's clients; a video is a part of a user message."""
    usage = {"include_usage": body.include_usage, "continuous_usage": body.continuous_usage}
    return await ask(body, partial(CompletionShape, **usage), context)


async def ask(body: CompletionBody, shape_of: ShapeOf, context: RequestContext) -> Response:
    """Answer a chat completion in any shape."""
    services, tenant = context.services, context.tenant
    services.admission.require_room(tenant, body.num_choices, "n")
    model = services.engine.resolve(body.model)
    said, options = conversation_of(messages_of(body)), body.options()
    body.check_offered(said.turns)
    clips = await _clips(said.videos, partial(_find, context), services.engine.known_card(model))
    if not clips and services.settings.require_video:
        raise video_required()
    question = Question(tenant, (model,) * body.num_choices, said.turns, options, clips)
    return await _respond(question, shape_of, context, is_stream=bool(body.stream))


async def _find(context: RequestContext, part: VideoPart) -> VideoSource:
    """An upload, what came inside of the request, or what lies elsewhere, for the length of the request."""
    store, tenant = context.services.store, context.tenant
    if not is_remote(part.url):
        return await find_source(store, context.inline, tenant, part.url, part.param)

    async def fetched() -> VideoSource:
        async with aclosing(context.services.fetcher.content(part.url, part.param, tenant)) as content:
            return await lend(store, content, tenant, context.lifetime)

    return await while_connected(context.request, fetched())


async def _clips(
    parts: Iterable[VideoPart],
    find: Find,
    card: ModelCard | None = None,
) -> tuple[ShownClip, ...]:
    """The videos that a body names, each found once, as far as a model takes them whose card is known.

    Raises:
        InvalidValueError: too many.
        BtchatError: one of them cannot be had.
    """
    sources: dict[str, VideoSource] = {}
    clips: dict[tuple[str, Sampling], ShownClip] = {}
    for part in parts:
        if part.url not in sources:
            if is_remote(part.url) and len(sources) >= MAX_VIDEOS:  # each is fetched whole to be compared
                raise too_many_videos(MAX_VIDEOS + 1, f"{MAX_VIDEOS} are allowed", part.param)
            sources[part.url] = await find(part)
        source = sources[part.url]
        key = source.sha256, canonical(part.sampling)
        if key in clips:
            continue
        if len(clips) == MAX_VIDEOS:
            raise too_many_videos(MAX_VIDEOS + 1, f"{MAX_VIDEOS} are allowed", part.param)
        clips[key] = ShownClip(source, part.sampling, part.place, part.param)
        if card is not None:
            check_count(distinct([*clips.values()], [card]), card)
    return tuple(clips.values())


async def _respond(
    question: Question, shape_of: ShapeOf, context: RequestContext, *, is_stream: bool
) -> Response:
    """Answers as a stream, or whole."""
    services, reader = context.services, EventReader(len(question.models))
    progress = await context.lifetime.enter_async_context(services.flow.answer(question, reader.put))
    shape = shape_of(uuid4().hex, int(time.time()), progress)
    if not is_stream:
        events = await reader.whole(context.request)
        return JSONResponse(shape.whole(events), headers=timing_of(events))
    await reader.wait_for_first(context.request, services.settings.stream_hold_seconds)
    return AnswerStream(reader, shape).response(services.settings)
