"""What the web process is told of a request that failed."""

import sys

from bt_model.errors import BtchatError, EngineError
from server.engine.models import Lease
from server.engine.wire import Failed


def failed(request_id: str, error: Exception) -> Failed:
    """The message for an error; one that we did not foresee is told on stderr only."""
    if isinstance(error, BtchatError):
        return Failed(request_id, type(error).__name__, error.message, error.code, error.param)
    sys.stderr.write(f"engine: {type(error).__name__}: {error}\n")
    return Failed(request_id, "EngineError", "the engine failed on this request", "engine_error", None)


def failure_of(lease: Lease, name: str) -> BtchatError:
    """Why a lease lacks a model; a lease that says nothing of it was given by an engine that stops."""
    return lease.failures.get(name) or EngineError("the engine is stopping", code="stopping")
