"""The embedded model as it lies in the repository, through real processes and real clients."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, cast

import httpx
import pytest
from openai import BadRequestError, OpenAI
from prometheus_client.parser import text_string_to_metric_families

from btchat.commands.running_server import RunningServer, free_port, running_server
from lab.shapes.clip_file import write_clip
from lab.shapes.questions import questions
from lab.shapes.slots import is_right
from lab.shapes.splits import scenes

EMBEDDED = Path(__file__).parent.parent / "weights" / "embedded"
SAMPLE = EMBEDDED / "sample.mp4"
QUESTION = "does the circle appear or disappear?"
ANSWER = "It disappears."
MAX_BYTES = 20_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("data")) as running:
        yield running


def upload(server: RunningServer, clip: bytes) -> str:
    answer = httpx.post(f"{server.url}/v1/video/uploads", content=clip, trust_env=False)
    answer.raise_for_status()
    return str(answer.json()["id"])


def ask(server: RunningServer, video: str, question: str) -> str:
    body = {"video": video, "messages": [{"role": "user", "content": question}]}
    answer = httpx.post(f"{server.url}/v1/video/chat", json=body, trust_env=False, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


def counters(server: RunningServer) -> dict[str, float]:
    text = httpx.get(f"{server.url}/metrics", trust_env=False).text
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model_name", "embedded") == "embedded" and len(sample.labels) <= 1
    }


def test_all_weights_together_stay_small() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.rglob("*") if path.is_file()) <= MAX_BYTES


def test_openai_client_streams_the_right_answer(server: RunningServer) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    video = {"type": "video_url", "video_url": {"url": upload(server, SAMPLE.read_bytes())}}
    content = cast(Any, [{"type": "text", "text": QUESTION}, video])  # the SDK's types know no video part
    stream = client.chat.completions.create(
        model="embedded",
        stream=True,
        stream_options={"include_usage": True},
        messages=[{"role": "user", "content": content}],
    )
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == ANSWER
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > len(ANSWER.split())


def test_openai_client_reads_an_error(server: RunningServer) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    with pytest.raises(BadRequestError) as caught:
        client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "hello"}])
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_second_question_decodes_and_encodes_nothing(server: RunningServer, tmp_path: Path) -> None:
    (scene,) = scenes("test", 1, seed=42)
    write_clip(tmp_path / "clip.mp4", scene)
    video = upload(server, (tmp_path / "clip.mp4").read_bytes())
    ask(server, video, "what shape is the object?")
    before = counters(server)
    ask(server, video, "what colour is the background?")
    after = counters(server)
    for name in ("btchat_videos_decoded_total", "btchat_videos_encoded_total"):
        assert after[name] == before[name] > 0
    hits = "btchat_feature_cache_hits_total"  # not there before the first
    assert after[hits] == before.get(hits, 0) + 1


def test_two_videos_asked_the_same_in_turn_have_each_its_own_answer(
    server: RunningServer, tmp_path: Path
) -> None:
    """Both hold the same frames, one of them backwards: what is kept of the one is wrong for the other."""
    (scene,) = scenes("test", 1, seed=1, kinds=["change"])
    asked = [questions(each, Random(0))[0] for each in (scene, scene.twin())]
    assert asked[0].text == asked[1].text
    assert asked[0].answer != asked[1].answer
    for number, each in enumerate((scene, scene.twin())):
        write_clip(tmp_path / f"{number}.mp4", each)
    videos = [upload(server, (tmp_path / f"{number}.mp4").read_bytes()) for number in range(2)]
    for _ in range(3):
        for video, of_it in zip(videos, asked, strict=True):
            assert is_right(of_it, ask(server, video, of_it.text))


def test_follow_up_question_is_answered_in_the_same_dialogue(server: RunningServer) -> None:
    messages = [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "what colour is the circle?"},
    ]
    body = {"video": upload(server, SAMPLE.read_bytes()), "messages": messages}
    answer = httpx.post(f"{server.url}/v1/video/chat", json=body, trust_env=False, timeout=60)
    assert answer.json()["choices"][0]["message"]["content"] == "It is blue."


def test_most_answers_about_unseen_combinations_are_right(server: RunningServer, tmp_path: Path) -> None:
    right: dict[bool, list[bool]] = {True: [], False: []}  # by whether the question is about time
    for number, scene in enumerate(scenes("test_combo", 24, seed=7)):
        path = tmp_path / f"{number}.mp4"
        write_clip(path, scene)
        video = upload(server, path.read_bytes())
        for question in questions(scene, Random(number)):
            right[question.is_temporal].append(is_right(question, ask(server, video, question.text)))
    # python -m benchmarks.embedded measures it; small shapes of 64 pixels' pictures are what it mistakes
    assert sum(right[True]) >= 0.9 * len(right[True])
    assert sum(right[False]) >= 0.88 * len(right[False])


def test_demo_prints_the_answer_and_ends_well() -> None:
    command = [sys.executable, "-m", "btchat.cli", "demo", "--once", "--port", str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{QUESTION}\n  {ANSWER}\n" in done.stdout
    assert "it knows shapes, colours and motions, nothing else" in done.stdout
    assert f"-m btchat ask {SAMPLE.relative_to(Path.cwd())} " in done.stdout  # as it was started here
    assert "INFO" not in done.stderr  # the answer is not torn by the server's log


def test_model_files_name_only_what_is_there() -> None:
    for path in EMBEDDED.glob("*.model.json"):
        model = json.loads(path.read_text())
        parts = [model[name] for name in ("tower", "adapter", "llm", "projector")]
        assert all((EMBEDDED / part).exists() for part in (*parts, *model["adapters"].values()) if part)


def test_other_branches_answer_by_their_names_through_the_openai_client(server: RunningServer) -> None:
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none")
    names = [model.id for model in client.models.list()]
    assert names == ["embedded", "embedded@pretrained", "embedded@none"]
    video = {"type": "video_url", "video_url": {"url": upload(server, SAMPLE.read_bytes())}}
    content = cast(Any, [{"type": "text", "text": "which way does the circle move?"}, video])
    said = [
        client.chat.completions.create(model=name, messages=[{"role": "user", "content": content}])
        for name in names
    ]
    assert [answer.model for answer in said] == names
    assert len({answer.choices[0].message.content for answer in said}) == len(names)
