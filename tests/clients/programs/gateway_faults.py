"""One bad request never hurts the next: faulty ones through a gateway, a good one after each.

Prints which good ones were refused, and which kinds of faulty ones were not refused with a 4xx.
"""

import json
import urllib.error
import urllib.request
from typing import Any

from cell import ANSWER, PLACE, QUESTION

NUM_FAULTY = 50


def body(*parts: Any, **more: Any) -> dict[str, Any]:
    content = [{"type": "text", "text": QUESTION}, *parts]
    return {"model": PLACE.model, "messages": [{"role": "user", "content": content}], **more}


def video(url: str) -> Any:
    return {"type": "video_url", "video_url": {"url": url}}


GOOD = body(video(PLACE.video_id))
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
FAULTY: dict[str, dict[str, Any]] = {
    "a stale id": body(video(PLACE.stale_id)),
    "a broken video": body(video(PLACE.broken_url)),
    "a broken video, streamed": body(video(PLACE.broken_url), stream=True),
    "an empty video": body(video("data:video/mp4;base64,")),
    "no video at all": body(video("data:video/mp4;base64,aGVsbG8=")),
    "an unknown model": body(model="no-such"),
    "a bad role": {"model": PLACE.model, "messages": [{"role": "robot", "content": "hello"}]},
    "n of 99": body(n=99),
    "a temperature of 9": body(temperature=9),
    "tools": body(tools=[TOOL], tool_choice="required"),
    "a remote URL": body(video("https://example.invalid/clip.mp4")),
    "a huge max_tokens": body(max_tokens=10_000_000),
    "no messages": {"model": PLACE.model, "messages": []},
    "a wrong key behind the gateway": body(model="wrong-key"),
}


def ask(given: dict[str, Any]) -> tuple[int, str]:
    """Status and body; a stream that breaks off has its error in the body."""
    headers = {"authorization": f"Bearer {PLACE.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{PLACE.url}/v1/chat/completions", json.dumps(given).encode(), headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def main() -> None:
    kinds = list(FAULTY.items())
    refused: list[str] = []
    passed: dict[str, str] = {}
    for number in range(NUM_FAULTY):
        kind, faulty = kinds[number % len(kinds)]
        status, said = ask(faulty)
        if status < 400:  # also 200 with nothing in it
            passed[kind] = f"{status} {said[:100]}"
        elif status >= 500:
            passed[kind] = f"{status}: {said[:200]}"
        status, said = ask(GOOD)
        if status != 200 or ANSWER not in said:
            refused.append(f"after {kind}: {status} {said[:100]}")
    line = {"faulty": NUM_FAULTY, "kinds": len(kinds), "refused": refused, "passed": passed}
    print(f"FAULTS {json.dumps(line)}")  # noqa: T201


if __name__ == "__main__":
    main()
