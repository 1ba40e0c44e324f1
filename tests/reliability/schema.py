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

from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, one_of_its_own, served

_KEY = "the-key-that-is-right"
_SCHEMATHESIS = Path(__file__).parents[2] / ".work" / "schemathesis" / "bin" / "st"
_CASES, _EXAMPLES = 10_000, 300  # the second of each operation, in either of two runs
# what JSON Schema cannot say (server/bodies/rules.py), as its refusals begin
_UNSAID = re.compile(
    r"messages have the roles|messages\S+ is empty; allowed: a question"
    r"|\S+\.end is .* more than start|the file is|the body is announced as|the form"
    r"|the filename is |the upload is too large"
    r"|\S+ is a (second|remote) |\S+ is '?data:|\S+ is not base64|the URL|url "
)
_UNKNOWN_HEADER = "x-schemathesis-unknown-property"
_ABOUT_VALUES = ("positive_data_acceptance", "negative_data_rejection")
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
    with served("--max-requests-per-key", "1000", *flags) as program:
        command = [
            *(str(_SCHEMATHESIS), "run", f"{program.url}/openapi.json", "--checks", "all", "--no-color"),
            *("--max-examples", str(_EXAMPLES), "--seed", "17", "--continue-on-failure", "--workers", "2"),
            *("--suppress-health-check", "all", "--report", "ndjson", "--report-dir", str(folder)),
            *(("-H", f"Authorization: Bearer {_KEY}") if flags else ()),
        ]
        folder.mkdir()  # it leaves files of its own where it runs
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
            complaints.append(str(error)[:200])
    return count, complaints


def _complaints(recorder: dict[str, Any]) -> Iterator[str]:
    for case, checks in recorder.get("checks", {}).items():
        exchange = recorder.get("interactions", {}).get(case, {})
        for check in checks:
            if check["status"] == "failure" and not (check["name"] in _ABOUT_VALUES and _is_unsaid(exchange)):
                answer = exchange["response"]
                yield f"{recorder['label']}: {check['name']}: {answer['status_code']} {_body(answer)[:120]}"


def _is_unsaid(exchange: dict[str, Any]) -> bool:
    """Whether a refusal follows from what the schema cannot say, or a value from what nobody may refuse."""
    is_unknown_header = _UNKNOWN_HEADER in exchange["request"]["headers"]
    is_version = exchange["response"]["status_code"] == HTTPStatus.PRECONDITION_FAILED  # of tus
    return is_unknown_header or is_version or bool(_UNSAID.match(_message(_body(exchange["response"]))))


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
