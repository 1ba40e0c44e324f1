"""A live session over a WebSocket, which is let in as a request is."""

import asyncio
import contextlib
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from bt_model.errors import BtchatError, require
from bt_model.types import ModelCard
from server.answers.flow import ChatFlow
from server.bodies.live import SessionConfig, error_message
from server.deps import LifespanState, Services
from server.engine.live import EngineWindow, is_lost
from server.keys.offered import SUBPROTOCOL
from server.live.closing import DONE, RESTARTED, close_code
from server.live.questions import AskedModel, Questions
from server.live.session import LiveClient, LiveSession, silent
from server.live.talk import Talk
from server.live.window import SessionWindow
from server.log.request import note
from server.problems import Problem, problem_of

_IGNORED = {
    "audio": 'answers are text: "audio" among modalities is ignored',
    "enable_frame_filter": "every frame is looked at: enable_frame_filter is ignored",
}


async def converse(socket: WebSocket) -> None:
    """Refuse a client before it is accepted, or let it converse; its key has been checked."""
    services = cast(LifespanState, socket.scope["state"])["services"]
    tenant: str = socket.scope["state"]["tenant"]
    try:
        _check_origin(socket, services.settings.cors_origins or ())
        with services.live.enter(tenant):
            services.admission.rates.count_request(tenant)
            is_page = SUBPROTOCOL in socket.scope["subprotocols"]
            await socket.accept(SUBPROTOCOL if is_page else None)
            await _converse(services, tenant, Talk(socket, services.settings.stream_stall_seconds))
    except (BtchatError, Problem) as error:
        await socket.send_denial_response(problem_of(error).response())


def _check_origin(socket: WebSocket, allowed: tuple[str, ...]) -> None:
    """Let pages in of this server and of origins that are allowed; browsers ask nobody else about that."""
    origin = socket.headers.get("origin")
    if origin is None or origin in allowed or urlsplit(origin).netloc == socket.headers.get("host"):
        return
    text = f"no page of {origin[:80]!r} may use this server; setting cors_origins allows some"
    raise Problem(403, text, code="origin_not_allowed", param="origin")


async def _converse(services: Services, tenant: str, talk: Talk) -> None:
    """From the first message to the word that ends the session."""
    rates, engine = services.admission.rates, EngineWindow(services.engine)
    window = SessionWindow(engine, services.decoder, services.metrics, rates, tenant)
    problem: Problem | None = None
    try:
        end = await _session(services, tenant, talk, window)
        code = RESTARTED if end == "stopping" else DONE
    except WebSocketDisconnect:
        note(end="left")
        return
    except (BtchatError, HTTPException, TimeoutError) as error:
        problem = problem_of(error)
        end, code = problem.code, RESTARTED if is_lost(problem) else close_code(problem.status_code)
    finally:
        window.close()
        note(**{f"frames_{name}": count for name, count in window.told().items()})
    note(end=end)
    with contextlib.suppress(WebSocketDisconnect):
        if problem is not None:
            await talk.say(error_message(problem))
        await talk.say({"type": "session.done", "reason": end, "frames": window.told()})
        await talk.close(code)


async def _session(services: Services, tenant: str, talk: Talk, window: SessionWindow) -> str:
    """Why it ended. Raises as `LiveSession.run`, and what is wrong with its settings."""
    settings, admission, stopping = services.settings, services.admission, services.live.stopping
    config = await _configured(talk, settings.live_idle_seconds, stopping)
    options, model = config.chosen_options(), services.engine.resolve(config.model)
    note(model=model)
    card = await window.open(model, config.num_kept)
    asked = config.num_frames or min(card.default_frames, config.num_kept)
    require(asked <= card.max_frames, "num_frames", asked, f"1 to {card.max_frames}, which {card.id} takes")
    flow = ChatFlow(services.engine, window, admission, services.metrics, settings.request_seconds)
    model_asked = AskedModel(tenant, model, options, asked, config.system_prompt)
    questions = Questions(model_asked, flow, window, admission, talk)
    await talk.say(_created(config, card, asked))
    client = LiveClient(
        tenant, talk, admission, settings.live_idle_seconds, stopping, bool(config.frame_acks)
    )
    return await LiveSession(client, window, questions).run()


async def _configured(talk: Talk, seconds: float, stopping: asyncio.Event) -> SessionConfig:
    """The first message. Raises Problem: it did not come in time, or the server stops."""
    hearing, ending = asyncio.create_task(_first_message(talk)), asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait({hearing, ending}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            return hearing.result()
        if ending.done():
            raise Problem(503, "this server is being stopped", code="stopping")
        raise silent(seconds)
    finally:
        hearing.cancel()
        ending.cancel()
        await asyncio.gather(hearing, ending, return_exceptions=True)


async def _first_message(talk: Talk) -> SessionConfig:
    while not isinstance(message := await talk.hear(), SessionConfig):
        if message is not None:
            text = f"type is {message.type}; allowed: session.config, as the first message of a session"
            await talk.say(error_message(Problem(400, text, code="invalid_value", param="type")))
    return message


def _created(config: SessionConfig, card: ModelCard, num_frames: int) -> dict[str, Any]:
    """What holds from now on, and what was asked for and is not there."""
    is_asked = {
        "audio": "audio" in (config.modalities or ()),
        "enable_frame_filter": config.enable_frame_filter is True,
    }
    return {
        "type": "session.created",
        "model": card.id,
        "num_frames": num_frames,
        "max_frames": config.num_kept,
        "notices": [text for name, text in _IGNORED.items() if is_asked[name]],
    }
