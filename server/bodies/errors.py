"""The error object."""

from typing import Literal

from server.bodies.described import ResponseBody

Kind = Literal[
    "invalid_request_error", "authentication_error", "permission_error", "rate_limit_error", "server_error"
]


class ErrorDetail(ResponseBody):
    """What is wrong, in words and as a code, and with which field."""

    message: str
    """the value, what is allowed, and what to do next"""
    type: Kind
    """who can mend it: who asked, who has the key, or who runs the server"""
    param: str | None
    """path of the field, such as messages[0].content"""
    code: str
    """a word for programs"""


class ErrorObject(ResponseBody):
    """The body of every response that is no success, and an event of a stream that breaks."""

    error: ErrorDetail
    """what is wrong"""
