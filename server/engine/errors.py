"""Errors of the engine process on their way to the web process, both directions."""

import sys

from bt_model import errors
from bt_model.errors import BtchatError, EngineError
from server.engine.wire import Failed


def failed(request_id: str, error: Exception) -> Failed:
    """The message for an error; one that we did not foresee is told on stderr only."""
    if isinstance(error, BtchatError):
        return Failed(request_id, type(error).__name__, error.message, error.code, error.param)
    sys.stderr.write(f"engine: {type(error).__name__}: {error}\n")
    return Failed(request_id, "EngineError", "the engine failed on this request", "engine_error", None)


def exception_of(name: str, message: str, code: str, param: str | None) -> BtchatError:
    """The engine's error, in its own class."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BtchatError)):
        kind = EngineError
    return kind(message, code=code, param=param)
