"""The OpenAPI document tells the truth: schemathesis asks what it allows and what it does not."""

import base64
import json
import random
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from server.bodies.examples import VIDEO
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, one_of_its_own, served

_KEY = "the-key-that-is-right"
_SCHEMATHESIS = Path(__file__).parents[2] / ".work" / "schemathesis" / "bin" / "st"
_CASES, _EXAMPLES = 10_000, 15  # the second of each operation, in either of two runs
_SHORT = ("--max-context", "128")  # answers, as most are as long as there is room for
# what JSON Schema cannot say (server/bodies/rules.py), as its refusals begin
_UNSAID = re.compile(
    # what stands first, last, or beside: the order of messages, and numbers that depend on others
    r"messages have the roles|\S+ is empty; allowed: a question|\S+ is a second "
    r"|(add_generation_prompt|continue_final_message) is |min_tokens is .* max_tokens"
    r"|\S+strategy is .* with fps|\S+\.end is .* start"
    r"|expires_after\.\w+ is missing"  # is said: no generator of forms makes anything of it
    # what bytes are and say, also those of a form or a header
    r"|the file is|frames are|line \d+ is|purpose is .* JSON|the body is announced as"
    r"|the form|the filename is "
    r"|\S+ is a remote |\S+ is ['\"]?(?i:data:)|\S+ is not base64|the URL|url "
    # what is there, and how much a model or an upload takes
    r"|no (video|model|response|message) ['\"]|no upload has |fingerprint is|part_ids has "
    r"|\S+ is \S+ s; the video lasts|no frame begins|(index|t) is .* of the video"
    r"|\S+fps is .* which gives|\S+ asks for \d+ frames"
    r"|the (prompt|messages) ha\w+ \d+ |the (upload|body) is too large|a part may have "
)
_UNKNOWN_HEADER = "x-schemathesis-unknown-property"
_ABOUT_VALUES = ("positive_data_acceptance", "negative_data_rejection")
_AVAILABILITY, _CANCEL = "ensure_resource_availability", "/cancel"
_GENERATORS = (
    "FailedHealthCheck",
    "SerializationNotPossible",
)  # too large for it, or the type of tus' pieces
_ODD = (
    None,
    True,
    -1,
    0,
    1.5,
    2**63,
    1e300,
    "",
    " ",
    "x" * 300,
    "\x00",
    "vid_" + "0" * 32,
    [],
    [[]],
    {},
    {"x": 1},
)


def schema(is_full: bool) -> Figure:
    if not is_full:
        with one_of_its_own(is_full) as program:
            return _sample(program, 60)
    if not _SCHEMATHESIS.exists():
        return Figure("schemathesis is not there: make reliability installs it", is_met=False)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor() as pool:
        keys = Path(folder, "keys")
        keys.write_text(f"{_KEY}\n", encoding="utf-8")
        asks = [(Path(folder, "open"), ()), (Path(folder, "locked"), ("--api-keys-file", str(keys)))]
        (count, found), (more, others) = pool.map(lambda ask: _fuzzed(*ask), asks)
    bad = Counter(found) + Counter(others)
    text = f"{count} cases, {more} more with keys: {bad.total()} complaints {dict(bad.most_common(4))}"
    return Figure(text, is_met=not bad and count + more >= _CASES)


def _fuzzed(folder: Path, flags: tuple[str, ...]) -> tuple[int, list[str]]:
    """The number of cases, and every complaint but those about what a schema cannot say."""
    with served("--max-requests-per-key", "1000", *_SHORT, *flags) as program:
        folder.mkdir()  # it leaves files of its own where it runs
        key = {"Authorization": f"Bearer {_KEY}"} if flags else {}
        # of one thread: in several, ast.parse of Python 3.11 fails now and then
        command = [
            *(str(_SCHEMATHESIS), "run", str(_document(program, folder, key)), "--url", program.url),
            *("--checks", "all", "--no-color", "--request-timeout", "60", "--max-response-time", "60"),
            *("--max-examples", str(_EXAMPLES), "--seed", "17", "--continue-on-failure"),
            *("--suppress-health-check", "all", "--report", "ndjson", "--report-dir", str(folder)),
            *(part for name, value in key.items() for part in ("-H", f"{name}: {value}")),
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    reports = list(folder.glob("*.ndjson"))
    assert reports, done.stdout[-500:] + done.stderr[-500:]
    count, complaints = 0, list[str]()
    for line in reports[0].read_text(encoding="utf-8").splitlines():
        event: dict[str, Any] = json.loads(line)
        if (end := event.get("ScenarioFinished")) is not None:
            recorder: dict[str, Any] = end["recorder"]
            count += len(recorder.get("interactions", {}))
            complaints += _complaints(recorder)
        error: dict[str, Any] = event.get("NonFatalError") or event.get("FatalError") or {}
        if error and error.get("value", {}).get("type") not in _GENERATORS:
            complaints.append(f"{error.get('label')}: {error['value']}"[:200])
    return count, complaints


def _document(program: Program, folder: Path, headers: dict[str, str]) -> Path:
    """The document, of which the examples' video is there."""
    with program.client(headers=headers) as client:
        video: str = client.post("/v1/video/uploads", content=program.clip).json()["id"]
        text = client.get("/openapi.json").text.replace(VIDEO, video)
    path = folder / "openapi.json"
    path.write_text(text, encoding="utf-8")
    return path


def _complaints(recorder: dict[str, Any]) -> Iterator[str]:
    cancelled = _cancelled(recorder)
    for case, checks in recorder.get("checks", {}).items():
        exchange = recorder.get("interactions", {}).get(case, {})
        for check in checks:
            is_told_of = check["name"] in _ABOUT_VALUES and _is_unsaid(exchange)
            is_gone = check["name"] == _AVAILABILITY and _is_part_of(exchange, cancelled)
            if check["status"] == "failure" and not is_told_of and not is_gone:
                answer = exchange["response"]
                yield f"{recorder['label']}: {check['name']}: {answer['status_code']} {_body(answer)[:120]}"


def _cancelled(recorder: dict[str, Any]) -> list[str]:
    """Addresses of uploads and batches that a POST has ended, which for schemathesis only a DELETE does."""
    asked = [each["request"]["uri"] for each in recorder.get("interactions", {}).values()]
    return [uri.removesuffix(_CANCEL) for uri in asked if uri.endswith(_CANCEL)]


def _is_part_of(exchange: dict[str, Any], addresses: list[str]) -> bool:
    return exchange["request"]["uri"].startswith(tuple(addresses))


def _is_unsaid(exchange: dict[str, Any]) -> bool:
    """Whether a refusal follows from what the schema cannot say, or a value from what nobody may refuse."""
    is_unknown_header = _UNKNOWN_HEADER in exchange["request"]["headers"]
    status = exchange["response"]["status_code"]
    is_version = status == HTTPStatus.PRECONDITION_FAILED  # of tus
    # in no words: what GET says of the same is told apart
    is_silent = status == HTTPStatus.BAD_REQUEST and exchange["request"]["method"] == "HEAD"
    said = _message(_body(exchange["response"]))
    return is_unknown_header or is_version or is_silent or bool(_UNSAID.match(said))


def _body(answer: dict[str, Any]) -> str:
    content = (answer.get("content") or {}).get("$base64", "")
    return base64.b64decode(content).decode("utf-8", "replace")


def _message(answer: str) -> str:
    try:
        return str(json.loads(answer)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer


def _sample(program: Program, count: int) -> Figure:
    """Some requests with an odd value each, whose answers are compared with the document."""
    rng = random.Random(17)
    with program.client() as client:
        document: dict[str, Any] = client.get("/openapi.json").json()
        operations = [(path, method) for path, methods in document["paths"].items() for method in methods]
        complaints = [
            complaint
            for _ in range(count)
            for complaint in [_asked(client, document, *rng.choice(operations), rng)]
            if complaint
        ]
    text = f"{count} requests: {len(complaints)} answers that are not documented {complaints[:3]}"
    return Figure(text, is_met=not complaints)


def _asked(client: httpx.Client, document: dict[str, Any], path: str, method: str, rng: random.Random) -> str:
    """What is wrong with the answer to a request; empty where it is documented."""
    operation = document["paths"][path][method]
    query = {
        each["name"]: str(rng.choice(_ODD))
        for each in operation.get("parameters", [])
        if each["in"] == "query"
    }
    content = operation.get("requestBody", {}).get("content", {})
    reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
    fields = document["components"]["schemas"].get(reference.rpartition("/")[2], {}).get("properties", {})
    body = {name: rng.choice(_ODD) for name in fields if rng.random() < 0.3}
    target = re.sub(r"\{\w+\}", rng.choice(["x", "vid_" + "0" * 32, "%00", "embedded"]), path)
    send = {"params": query} if method in ("get", "delete", "head") else {"params": query, "json": body}
    answer = client.request(method, target, **send)  # pyright: ignore[reportArgumentType] - as httpx takes it
    documented = operation["responses"].get(str(answer.status_code))
    if documented is None or answer.status_code >= 500:
        return f"{method} {path}: {answer.status_code} {answer.text[:80]}"
    is_error = answer.status_code >= 400
    if (
        is_error
        and answer.text
        and set(answer.json().get("error", {})) != {"message", "type", "param", "code"}
    ):
        return f"{method} {path}: {answer.text[:80]}"
    return ""


GOALS = (
    Goal(
        "G17",
        "schemathesis, all checks, >= 10,000 cases, also with keys: 0 x 5xx, 0 undocumented codes, 0 schema "
        "violations, 0 ignored auth, 0 valid bodies refused but for what JSON Schema cannot say",
        schema,
    ),
)
