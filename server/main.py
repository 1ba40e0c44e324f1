"""Assembly of the web process; importing this does nothing."""

import asyncio
import gc
import logging
import shutil
import socket
import sqlite3
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version

import uvicorn
import uvloop
from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.routing import WebSocketRoute

from bt_model.assembly.catalog import find, require_weights_dir
from bt_model.decoding.pool import DecodePool
from bt_model.errors import BtchatError, EngineError, InvalidValueError, explain
from server.admission import Admission
from server.answers.flow import ChatFlow
from server.batches.runner import BatchRunner
from server.batches.store import BatchStore
from server.bodies.refusals import show_refusal
from server.connections.listener import ended_by_signals, listening
from server.connections.server import HttpServer, raise_descriptor_limit
from server.decoding.futures import running
from server.decoding.pool import decode_pool
from server.deps import LifespanState, Services
from server.engine.client import EngineClient
from server.engine.command import engine_command
from server.engine.supervisor import Command, RestartRule
from server.features.ahead import EncodeAhead
from server.features.flights import VideoFeatures
from server.fetching.fetcher import Fetcher
from server.fetching.lookups import Lookups
from server.keys.file import load_keys
from server.live import PATH
from server.live.places import LivePlaces
from server.log.lines import configure_log
from server.metrics import Metrics
from server.middleware.inside import InsideCalls
from server.middleware.keys import PAGE_FILES
from server.middleware.stack import guard
from server.problems import show_problem
from server.routes import health, live
from server.routes.document import DESCRIPTION, SUMMARY, TAGS, document, operation_id
from server.routes.page_files import keep_in_memory
from server.routes.query import refuse_unknown_query
from server.routes.table import ROUTERS
from server.settings import Settings
from server.uploads.expiry import expiring
from server.uploads.store import VideoStore
from server.uploads.usage import StoreLimits

log = logging.getLogger(__name__)

Start = Callable[[], AbstractAsyncContextManager[Services]]


@asynccontextmanager
async def start_services(settings: Settings, command: Command) -> AsyncGenerator[Services]:
    """Everything that the application needs, but for the engine, which begins to load its model.

    All is stopped in reverse order.

    Raises:
        BtchatError: the one-line reason why this server cannot start.
    """
    metrics, keys = Metrics(), load_keys(settings)
    async with AsyncExitStack() as stack:
        store = await _open_store(settings)
        stack.push_async_callback(store.close)
        decoder = await stack.enter_async_context(running(decode_pool(settings)))
        fetcher = Fetcher(settings, lambda: decoder.report.sandbox.level == "full", Lookups(keys.num_tenants))
        engine = EngineClient(command, RestartRule(start_seconds=settings.engine_start_seconds))
        stack.push_async_callback(engine.stop)
        engine.begin()
        admission = Admission.of(settings, keys)
        features = VideoFeatures(engine, decoder, metrics, admission.rates)
        live_places = LivePlaces(settings, keys)
        _watch(metrics, settings, store, decoder, engine, admission)
        metrics.watch(live_sessions=lambda: live_places.num_taken)
        flow = ChatFlow(engine, features, admission, metrics, settings.request_seconds)
        ahead = EncodeAhead(engine, features, metrics, is_on=settings.encode_at_upload)
        await stack.enter_async_context(ahead.running())
        await stack.enter_async_context(expiring(store, ahead.forget))
        batch_store = BatchStore(settings.data_dir, settings.upload_ttl_seconds, settings.max_json_bytes)
        stack.push_async_callback(batch_store.close)
        yield Services(
            settings=settings,
            metrics=metrics,
            store=store,
            fetcher=fetcher,
            decoder=decoder,
            engine=engine,
            features=features,
            ahead=ahead,
            admission=admission,
            flow=flow,
            batches=batch_store,
            live=live_places,
            started_at=int(time.time()),
        )


def _watch(
    metrics: Metrics,
    settings: Settings,
    store: VideoStore,
    decoder: DecodePool,
    engine: EngineClient,
    admission: Admission,
) -> None:
    """Let the metrics look at what changes by itself."""
    metrics.watch(
        engine_ready=lambda: engine.is_ready,
        engine_restarts=lambda: engine.num_restarts,
        num_requests_in_flight=lambda: admission.num_running,
        decode_queue=lambda: decoder.num_waiting,
        body_bytes_in_flight=lambda: admission.num_bytes,
        incoming_bytes=lambda: store.incoming_bytes,
        store_bytes=lambda: store.num_bytes,
        store_videos=lambda: store.num_videos,
        disk_free_bytes=lambda: shutil.disk_usage(settings.data_dir).free,
    )


def create_app(settings: Settings, start: Start) -> FastAPI:
    """The application around the services that `start` opens.

    Raises:
        InvalidValueError: a keys file that cannot be used, or an origin that no browser sends.
    """
    keys = load_keys(settings)
    inside = InsideCalls()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[LifespanState]:
        async with start() as services:
            services.metrics.expect(route for router in ROUTERS for route in router.routes)
            ask = partial(inside.post, services=services)
            runner = BatchRunner(services.batches, ask, lambda: services.admission.has_spare_room)
            async with runner.running():
                yield {"services": services}

    app = FastAPIOffline(
        title="btchat",
        summary=SUMMARY,
        description=DESCRIPTION,
        openapi_tags=TAGS,
        generate_unique_id_function=operation_id,
        version=version("btchat"),
        lifespan=lifespan,
        static_url=PAGE_FILES,
    )
    keep_in_memory(app)
    document(app)
    asked = [Depends(HTTPBearer(auto_error=False))] if keys.all else []  # KeyCheck is what refuses
    for router in ROUTERS:
        of_key = asked if router is not health.probes else []
        app.include_router(router, dependencies=[Depends(refuse_unknown_query), *of_key])
    app.router.routes.append(WebSocketRoute(PATH, live.converse))
    for kind in (BtchatError, HTTPException, TimeoutError):
        app.add_exception_handler(kind, show_problem)
    app.add_exception_handler(RequestValidationError, show_refusal)
    guard(app, settings, keys, inside)
    return app


async def _open_store(settings: Settings) -> VideoStore:
    try:
        return await VideoStore.open(settings.data_dir, StoreLimits.of(settings))
    except FileExistsError as error:
        text = f"data_dir is {settings.data_dir}, which is a file; allowed: a folder"
        raise InvalidValueError(text, param="data_dir") from error
    except (OSError, sqlite3.Error) as error:
        text = f"cannot use the data folder {settings.data_dir}: {explain(error)}"
        raise InvalidValueError(text, param="data_dir") from error


def serve(settings: Settings) -> int:
    """Serve until a signal comes; 1 if the engine has died too often.

    Raises:
        BtchatError: why this server cannot start.
    """
    configure_log(settings.log_level, settings.log_format)
    require_weights_dir(settings.weights_dir)
    for name in settings.model:
        find(name, settings.weights_dir)
    raise_descriptor_limit()
    return uvloop.run(_serve_until_stopped(settings, engine_command(settings)))


async def _serve_until_stopped(settings: Settings, command: Command) -> int:
    """Serve until a signal comes; returns 1 if the engine has died too often."""
    started: asyncio.Future[Services] = asyncio.get_running_loop().create_future()
    app = create_app(settings, lambda: _awaiting(started))  # keys are read before a model is loaded
    stopped = EngineError("this server was stopped before the answer was complete", code="stopping")
    server = HttpServer(app, settings, lambda: started.result().engine.fail_all(stopped))
    with ended_by_signals(server), listening(settings) as sock:
        async with start_services(settings, command) as services:
            started.set_result(services)
            log.info("btchat %s; models: %s", version("btchat"), ", ".join(settings.model))
            watcher = asyncio.create_task(_end_with_engine(server, services.engine, sock))
            gc.freeze()  # what is there now stays: a search for garbage in it would stop everybody for 0.1 s
            try:
                await server.serve(sockets=[sock])
            finally:
                watcher.cancel()
                await asyncio.wait({watcher})
            if not watcher.cancelled() and (error := watcher.exception()) is not None:
                raise error
            return 1 if services.engine.has_given_up else 0


async def _end_with_engine(server: uvicorn.Server, engine: EngineClient, sock: socket.socket) -> None:
    """Report the engine's start, and end the server when it does not start or has died too often.

    Raises:
        CheckpointError: the engine's one-line reason for not starting.
    """
    try:
        await engine.wait_started()
        card, (host, port) = engine.card, sock.getsockname()[:2]
        log.info("%s on %s, %s", card.id, card.versions.get("device"), card.versions.get("dtype"))
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        log.info("%s ready, docs at %s/docs", url, url)
        await engine.wait_given_up()
    finally:
        server.should_exit = True


@asynccontextmanager
async def _awaiting(started: asyncio.Future[Services]) -> AsyncGenerator[Services]:
    yield await started
