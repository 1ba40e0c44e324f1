"""Errors of the engine process on their way to the web process, both directions."""

import logging
from typing import Any

from bt_model import errors
from bt_model.errors import BtchatError, EngineError
from server.engine.wire import Failed

log = logging.getLogger(__name__)


def fields_of(error: BaseException) -> list[Any]:
    """Class name, message, code and param; of one that we did not foresee only the log is told more."""
    if isinstance(error, BtchatError):
        return [type(error).__name__, error.message, error.code, error.param]
    log.error("a request failed", exc_info=error)
    return fields_of(EngineError("the engine failed on this request"))


def exception_of(name: str, message: str, code: str, param: str | None) -> BtchatError:
    """The error of these fields, in its own class."""
    kind = getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, BtchatError)):
        kind = EngineError
    return kind(message, code=code, param=param)


def failed(request_id: str, error: BaseException) -> Failed:
    """The message that ends a request in an error."""
    return Failed(request_id, *fields_of(error))
