"""JSON is parsed without looks for garbage: among hundreds of thousands of new lists there is none."""

import gc

from starlette.types import Message

from server.routes.json_body import JsonRequest


async def test_no_garbage_is_looked_for_while_json_is_parsed() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"[" + b"[]," * 100_000 + b"[]]", "more_body": False}

    looks: list[str] = []

    def note(phase: str, info: object) -> None:
        looks.append(phase)

    gc.callbacks.append(note)
    try:
        parsed = await JsonRequest({"type": "http", "method": "POST", "headers": []}, receive).json()
        num_looks = len(looks)
    finally:
        gc.callbacks.remove(note)
    assert len(parsed) == 100_001
    assert num_looks <= 2  # one, at its end
    assert gc.isenabled()
