"""What is wrong with a line of a batch's input."""

import json
from typing import Any

from server.batches.records import BatchRequest

_LONGEST_NAME = 256


def error_of(request: BatchRequest, endpoint: str, seen: set[str]) -> dict[str, Any] | None:
    """Code, message and field of the first error, or None. Adds the line's name to `seen`."""
    try:
        asked = json.loads(request.text)
        json.dumps(asked, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _error("invalid_json_line", "this line has half a character, such as \\ud83d alone", None)
    except (ValueError, RecursionError):
        asked = None
    if not isinstance(asked, dict):
        return _error("invalid_json_line", "this line is no JSON object", None)
    name = asked.get("custom_id")
    if not isinstance(name, str) or not 1 <= len(name) <= _LONGEST_NAME:
        text = f"custom_id is missing; allowed: 1 to {_LONGEST_NAME} characters"
        return _error("invalid_custom_id", text, "custom_id")
    is_known = name in seen
    seen.add(name)
    body = asked.get("body")
    checks = (
        (is_known, "duplicate_custom_id", f"custom_id {name[:40]!r} stands in an earlier line", "custom_id"),
        (asked.get("method") != "POST", "invalid_method", "method is not POST; allowed: POST", "method"),
        (
            asked.get("url") != endpoint,
            "mismatched_url",
            f"url is not the batch's endpoint; allowed: {endpoint}",
            "url",
        ),
        (not isinstance(body, dict), "invalid_body", "body is missing or no object", "body"),
        (
            isinstance(body, dict) and bool(body.get("stream")),
            "unsupported_parameter",
            "answers of a batch are whole; leave stream out",
            "body.stream",
        ),
    )
    return next((_error(*error) for is_wrong, *error in checks if is_wrong), None)


def _error(code: str, message: str, param: str | None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": param}
