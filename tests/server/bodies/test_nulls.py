"""What may be left out of a body may be null: SDKs send the options that nobody has set so."""

import importlib
import pkgutil
from typing import Any

import httpx
import pytest
from pydantic import create_model

from server import bodies
from server.bodies.own import Body
from tests import fakes
from tests.server.conftest import question

for _module in pkgutil.iter_modules(bodies.__path__):
    importlib.import_module(f"{bodies.__name__}.{_module.name}")


def every(kind: type[Body]) -> set[type[Body]]:
    return {kind}.union(*(every(each) for each in kind.__subclasses__()))


OPTIONAL = {
    f"{kind.__name__}.{name}": field
    for kind in every(Body)
    for name, field in kind.model_fields.items()
    if kind.__module__.startswith(bodies.__name__) and not field.is_required()
}


@pytest.mark.parametrize("name", sorted(OPTIONAL))
def test_what_may_be_left_out_may_be_null(name: str) -> None:
    field = OPTIONAL[name]
    kind: Any = field.annotation
    create_model("One", value=(kind, field)).model_validate({"value": None})


SAMPLING = {"num_frames": None, "fps": None, "strategy": None, "seed": None}


def test_a_question_with_nulls_is_answered(client: httpx.Client, video: str) -> None:
    nulls = {"stream": None, "sampling": SAMPLING, "fingerprint": None, "question": None, "stop": None}
    body = question(video) | nulls
    body["messages"] = [{"role": "user", "content": "what?", "videos": None, "name": None}]
    answer = client.post("/v1/video/chat", json=body)
    assert (answer.status_code, answer.json()["object"]) == (200, "chat.completion")
    receipt = answer.json()["receipt"]
    assert receipt["sampling"]["num_frames"] == fakes.CARD.default_frames
    assert (receipt["sampling"]["strategy"], receipt["sampling"]["seed"]) == ("uniform", 0)


@pytest.mark.parametrize("sampling", [None, SAMPLING])
@pytest.mark.parametrize("route", ["frames", "tokens"])
def test_without_a_sampling_frames_are_the_models(
    client: httpx.Client, video: str, route: str, sampling: object
) -> None:
    body = {"video": video, "sampling": sampling, "model": None}
    shown = client.post(f"/v1/video/{route}", json=body | ({"format": "json"} if route == "tokens" else {}))
    told = shown.json() if route == "frames" else shown.json()["receipt"]
    assert told["sampling"]["num_frames"] == fakes.CARD.default_frames


def test_responses_take_nulls_as_well(client: httpx.Client) -> None:
    item = {"type": None, "role": "user", "content": "what?", "id": None, "status": None}
    for text in (None, {"format": None}, {"format": {"type": None}}):
        answer = client.post("/v1/responses", json={"input": [item], "stream": None, "text": text})
        assert (answer.status_code, answer.json()["object"]) == (200, "response")
        assert answer.json()["text"]["format"] == {"type": "text"}
