"""A receipt that is sent back gives the same answer, at temperature 0 and with a drawn seed."""

import base64
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from safetensors.numpy import load_file, save_file

from server.main import engine_command
from server.settings import Settings
from tests import published
from tests.clips import ClipSpec, write_clip
from tests.server.conftest import QUICK, RunningServer, error_of, question, running
from tests.server.dialogues.bodies import ANSWER, dialogue, part, said

CHAT, COMPLETIONS, UPLOADS = "/v1/video/chat", "/v1/chat/completions", "/v1/video/uploads"
MODELS = ["embedded", "embedded-clip", "embedded-zeroshot"]
WEIGHTS = Path(__file__).parents[2] / "weights"
SAMPLE = WEIGHTS / "embedded" / "sample.mp4"
SEVERAL = "llava-hf"
NUM_RECEIPTS = 100


def serving(folder: Path, weights: Path, models: list[str]) -> Iterator[RunningServer]:
    values = {"data_dir": folder, "weights_dir": weights, "device": "cpu", "threads": 1, "model": models}
    chosen = Settings.model_validate(QUICK | values)
    with running(chosen, engine_command(chosen)) as server:
        yield server


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    for server in serving(tmp_path_factory.mktemp("data"), WEIGHTS, MODELS):
        with server.client() as client:
            yield client


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    weights = tmp_path_factory.mktemp("weights")
    published.write_all(weights)
    for server in serving(tmp_path_factory.mktemp("data"), weights, [SEVERAL]):
        with server.client() as client:
            yield client


@pytest.fixture(scope="module")
def sample(client: httpx.Client) -> str:
    return client.post(UPLOADS, content=SAMPLE.read_bytes()).json()["id"]


@pytest.fixture(scope="module")
def pair(several: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("clips")
    specs = ClipSpec(), ClipSpec(num_frames=20, width=64)
    paths = [write_clip(folder / f"{number}.mp4", spec) for number, spec in enumerate(specs)]
    return [several.post(UPLOADS, content=path.read_bytes()).json()["id"] for path in paths]


def mixed(draw: random.Random, video: str) -> dict[str, Any]:
    """A question of any kind."""
    turns = ["does the circle appear or disappear?", "what moves?", "which colour is it?"]
    messages = [{"role": "user", "content": draw.choice(turns)}]
    for _ in range(draw.choice([0, 0, 1, 2])):
        answer = {"role": "assistant", "content": "It moves."}
        messages = [{"role": "user", "content": draw.choice(turns)}, answer, *messages]
    start = draw.choice([None, 0.0, 0.4])
    sampling: dict[str, Any] = draw.choice(
        [
            {},
            {
                "num_frames": draw.randint(2, 12),
                "strategy": draw.choice(["uniform", "uniform_time", "middle"]),
            },
            {"fps": draw.choice([2, 3.5]), "start": start},
            {"fps": 12, "max_frames": 6, "start": start},
            {"num_frames": 6, "strategy": "random", "seed": draw.randint(0, 99), "end": 1.7},
        ]
    )
    options: dict[str, Any] = draw.choice(
        [
            {"temperature": 0},
            {"temperature": 1.0},
            {"temperature": 1.3, "top_p": 0.9},
            {"temperature": 1, "seed": 5},
        ]
    )
    more = {"max_tokens": draw.randint(3, 12), "model": draw.choice(MODELS)}
    return {"video": video, "messages": messages, "sampling": sampling, **options, **more}


def receipts_of(stream: httpx.Response) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Receipts and texts of a stream by the numbers of its choices."""
    receipts, texts = dict[int, dict[str, Any]](), defaultdict[int, str](str)
    for line in stream.text.splitlines():
        if line.startswith("data: {"):
            chunk = json.loads(line.removeprefix("data: "))
            for choice in chunk["choices"]:
                texts[choice["index"]] += choice["delta"].get("content", "")
                if "receipt" in chunk:
                    receipts[choice["index"]] = chunk["receipt"]
    return receipts, texts


def said_by(answer: httpx.Response) -> tuple[str, str]:
    body = answer.json()
    assert answer.status_code == 200, body
    (choice,) = body["choices"]
    return choice["message"]["content"], choice["finish_reason"]


def test_a_hundred_receipts_give_the_same_answers(client: httpx.Client, sample: str) -> None:
    draw = random.Random(17)
    texts = set[str]()
    for _ in range(NUM_RECEIPTS):
        first = client.post(CHAT, json=mixed(draw, sample))
        receipt = first.json()["receipt"]
        again = client.post(CHAT, json={"receipt": receipt})
        assert said_by(again) == said_by(first), receipt["request"]
        for name in ("frames", "sampling", "model", "fingerprint", "request"):
            assert again.json()["receipt"][name] == receipt[name]
        texts.add(said_by(first)[0])
    assert len(texts) > NUM_RECEIPTS // 3  # answers differ, so that sameness says something


def test_its_request_alone_is_one_and_other_fields_override(client: httpx.Client, sample: str) -> None:
    first = client.post(CHAT, json=question(sample, max_tokens=6, temperature=1.0))
    receipt = first.json()["receipt"]
    assert said_by(client.post(CHAT, json=receipt["request"])) == said_by(first)
    stream = client.post(CHAT, json={"receipt": receipt, "stream": True})
    assert stream.headers["content-type"].startswith("text/event-stream")
    short = client.post(CHAT, json={"receipt": receipt, "max_tokens": 1})
    assert short.json()["usage"]["completion_tokens"] == 1
    other = client.post(CHAT, json={"receipt": receipt, "model": MODELS[1]})
    assert other.json()["receipt"]["model"] == MODELS[1]


def test_each_model_of_several_and_each_choice_has_its_own(client: httpx.Client, sample: str) -> None:
    first = client.post(CHAT, json=question(sample, model=MODELS, max_tokens=6, temperature=1.0)).json()
    for choice in first["choices"]:
        again = client.post(CHAT, json={"receipt": choice["receipt"]})
        assert said_by(again)[0] == choice["message"]["content"]
    body = dialogue(said(part(sample), "what moves?"), model=MODELS[0], n=3, stream=True, max_tokens=8)
    chunks = client.post(COMPLETIONS, json=body | {"temperature": 2.0, "seed": 3})
    receipts, texts = receipts_of(chunks)
    assert len(set(texts.values())) > 1
    for index, receipt in receipts.items():
        assert said_by(client.post(CHAT, json={"receipt": receipt}))[0] == texts[index]


@pytest.mark.parametrize("url", ["id", "data"])
def test_a_completion_is_replayed_on_our_own_route(client: httpx.Client, tmp_path: Path, url: str) -> None:
    clip = write_clip(tmp_path / "a.mp4", ClipSpec(width=80 if url == "id" else 112)).read_bytes()
    name = f"data:video/mp4;base64,{base64.b64encode(clip).decode()}"
    if url == "id":
        name = client.post(UPLOADS, content=clip).json()["id"]
    system = {"role": "system", "content": "Be brief."}
    messages = [system, said("what", part(name, num_frames=5), "is it?"), ANSWER, said("and then?")]
    more = {"max_completion_tokens": 9, "temperature": 1.1, "stop": ["zzz"], "logprobs": True}
    first = client.post(COMPLETIONS, json=dialogue(*messages, model=MODELS[0], **more))
    receipt = first.json()["receipt"]
    if url == "data":
        assert receipt["request"]["video"].startswith("sha256:")
        missing = client.post(CHAT, json={"receipt": receipt})
        assert (missing.status_code, error_of(missing)["code"]) == (404, "video_not_found")
        assert receipt["request"]["video"] in str(error_of(missing)["message"])
        client.post(UPLOADS, content=clip)
    again = client.post(CHAT, json={"receipt": receipt})
    assert said_by(again) == said_by(first)
    assert again.json()["choices"][0]["logprobs"] == first.json()["choices"][0]["logprobs"]


@pytest.mark.parametrize(
    "more",
    [
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"const": 7}}}},
        {"logit_bias": {"300": 5}, "min_tokens": 3, "stop": ["zzz"], "logprobs": True},
    ],
)
def test_formats_and_biases_are_replayed(client: httpx.Client, sample: str, more: dict[str, Any]) -> None:
    asked = question(sample, "what moves?", max_tokens=12, temperature=0) | {"model": "embedded"}
    answer = client.post(CHAT, json=asked | more).json()
    again = client.post(CHAT, json={"receipt": answer["receipt"]}).json()
    assert again["choices"] == answer["choices"]
    assert answer["receipt"]["request"].keys() >= more.keys()


def test_a_question_without_a_video_is_replayed(client: httpx.Client) -> None:
    first = client.post(COMPLETIONS, json=dialogue(said("what moves?"), model=MODELS[0], max_tokens=9))
    assert first.json()["receipt"]["request"]["video"] is None
    assert said_by(client.post(CHAT, json={"receipt": first.json()["receipt"]})) == said_by(first)


def test_several_videos_stand_where_they_stood(several: httpx.Client, pair: list[str]) -> None:
    one, other = pair
    dialogues = [
        [said(part(one), "what is it?"), ANSWER, said("and this?", part(other, num_frames=2))],
        [said("look", part(one), "and", part(other), "then", part(one, end=0.5), "what?")],
        [said(part(one), part(other), "what?")],
        [said("hello"), ANSWER, said(part(other), "what is it?")],
        [said("a", part(one)), ANSWER, said("b", part(other), "c", part(one, end=0.4), "d")],
    ]
    for messages in dialogues:
        body = dialogue(*messages, model=SEVERAL, max_tokens=16, temperature=1.0, top_k=50)
        first = several.post(COMPLETIONS, json=body)
        again = several.post(CHAT, json={"receipt": first.json()["receipt"]})
        assert said_by(again) == said_by(first), first.json()["receipt"]["request"]
        assert again.json()["usage"]["prompt_tokens"] == first.json()["usage"]["prompt_tokens"]
        assert again.json()["receipt"]["request"] == first.json()["receipt"]["request"]


def test_another_fingerprint_is_told(client: httpx.Client, sample: str) -> None:
    receipt = client.post(CHAT, json=question(sample, max_tokens=2)).json()["receipt"]
    real = receipt["fingerprint"]
    receipt["request"]["fingerprint"] = "0" * 16
    answer = client.post(CHAT, json={"receipt": receipt})
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (400, "fingerprint_changed", "fingerprint")
    assert real in str(error["message"])
    assert "0" * 16 in str(error["message"])
    assert client.post(CHAT, json={"receipt": receipt, "fingerprint": None}).status_code == 200


def test_another_language_model_under_the_same_name_is_told(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(WEIGHTS / "embedded", weights / "embedded")
    receipts, answers = [], []
    for number in range(2):
        for server in serving(tmp_path / "data", weights, MODELS[:1]):
            with server.client() as client:
                video = client.post(UPLOADS, content=SAMPLE.read_bytes()).json()["id"]
                receipts.append(client.post(CHAT, json=question(video, max_tokens=2)).json()["receipt"])
                answers.append(client.post(CHAT, json={"receipt": receipts[0]}))
        if not number:
            path = weights / "embedded" / "llava_video" / "model.safetensors"
            tensors = load_file(path)
            tensors["lm_head.weight"] = tensors["lm_head.weight"] * 2
            save_file(tensors, path, {"format": "pt"})
    assert [answer.status_code for answer in answers] == [200, 400]
    error = error_of(answers[1])
    assert (error["code"], error["param"]) == ("fingerprint_changed", "fingerprint")
    assert receipts[1]["cache"]["features"] == "hit"  # the tokens are as good as before
    assert receipts[0]["fingerprint"] in str(error["message"])
    assert receipts[1]["fingerprint"] in str(error["message"])


@pytest.mark.parametrize("receipt", [None, [], {}, {"request": 3}, {"request": {"video": 1}}])
def test_what_is_no_receipt_is_refused(client: httpx.Client, receipt: object) -> None:
    assert client.post(CHAT, json={"receipt": receipt}).status_code == 400
