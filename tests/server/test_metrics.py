"""The names on /metrics, on which dashboards depend, and what one answer adds to them."""

import re
import time
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from server.metrics import Metrics
from tests.fakes import MODEL
from tests.server.conftest import count, question
from tests.server.test_uploads import upload

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"\| `(\w+)` \| (\w+) \| (.*) \| (.*) \|")
STAGES = ("queue", "prefill", "decode")
SHORT = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
PAUSES = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80]
BUCKETS = {
    "btchat_video_encode_seconds": SHORT,
    "btchat_inter_token_latency_seconds": PAUSES,
    "btchat_request_prompt_tokens": [1, 4, 16, 64, 256, 1024, 4096, 16384],
    "btchat_video_frames": [1, 2, 4, 8, 16, 32, 64, 100, 128],
    "btchat_video_duration_seconds": [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200],
}


def documented(chapter: str) -> dict[str, tuple[str, str, str]]:
    """Kind, labels and meaning of each metric in one table of the page."""
    table = PAGE.read_text().split(f"## {chapter}\n")[1].split("\n## ")[0]
    return {name: (kind, labels, text) for name, kind, labels, text in ROW.findall(table)}


def test_the_page_names_every_metric_of_the_web_process_and_no_other() -> None:
    families = list(Metrics().registry.collect())
    found = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in families
    }
    page = documented("Of the web process")
    assert found == {name: (kind, text) for name, (kind, _, text) in page.items()}


def test_labels_are_those_of_the_page(client: httpx.Client, unseen: bytes) -> None:
    client.post("/v1/video/chat", json=question(upload(client, unseen)))
    page = documented("Of the web process")
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            name = re.sub("_(bucket|sum|count|created)$", "", sample.name)
            if name in page:
                labels = set(re.findall(r"`(\w+)`", page[name][1]))
                assert sample.labels.keys() - {"le"} == labels, sample


@pytest.mark.parametrize("name", BUCKETS)
def test_a_histogram_has_the_fields_buckets(client: httpx.Client, video: str, name: str) -> None:
    client.post("/v1/video/chat", json=question(video, "two words"))
    families = text_string_to_metric_families(client.get("/metrics").text)
    (samples,) = [family.samples for family in families if family.name == name]
    bounds = [float(s.labels["le"]) for s in samples if s.name.endswith("_bucket")]
    assert bounds[: bounds.index(float("inf"))] == BUCKETS[name]


def test_one_answer_is_counted_once_everywhere(client: httpx.Client, unseen: bytes) -> None:
    names = [
        *(f"btchat_request_{stage}_time_seconds_count" for stage in STAGES),
        "btchat_request_success_total",
        "btchat_time_to_first_token_seconds_count",
        "btchat_e2e_request_latency_seconds_count",
        "btchat_request_prompt_tokens_count",
        "btchat_request_generation_tokens_count",
        "btchat_video_encode_seconds_count",
        "btchat_videos_encoded_total",
        "btchat_feature_cache_misses_total",
    ]
    more = {
        "btchat_generation_tokens_total": 3,
        "btchat_prompt_tokens_total": 7,
        "btchat_prompt_tokens_cached_total": 2,
        "btchat_inter_token_latency_seconds_count": 2,
        "btchat_feature_cache_hits_total": 0,
        "btchat_requests_failed_total": 0,
        "btchat_requests_aborted_total": 0,
    }
    expected = dict.fromkeys(names, 1) | more
    video = upload(client, unseen)
    clocks = ("btchat_time_to_first_token_seconds_sum", "btchat_inter_token_latency_seconds_sum")
    before = {name: count(client, name) for name in (*expected, *clocks)}
    begin = time.monotonic()
    client.post("/v1/video/chat", json=question(video, "one two three"))
    assert {name: count(client, name) - before[name] for name in expected} == expected
    assert 0 < sum(count(client, name) - before[name] for name in clocks) <= time.monotonic() - begin


@pytest.mark.parametrize("path", ["frames", "tokens"])
def test_a_decode_is_counted_whatever_it_is_for(client: httpx.Client, unseen: bytes, path: str) -> None:
    names = (
        "btchat_videos_decoded_total",
        "btchat_video_decode_seconds_count",
        "btchat_video_frames_count",
        "btchat_video_duration_seconds_count",
    )
    video = upload(client, unseen)
    before = [count(client, name) for name in names]
    client.post(f"/v1/video/{path}", json={"video": video})
    assert [count(client, name) for name in names] == [value + 1 for value in before]


def test_gauges_are_read_when_they_are_shown(client: httpx.Client) -> None:
    assert count(client, "btchat_engine_ready") == 1
    assert count(client, "btchat_engine_restarts") == 0
    assert count(client, "btchat_num_requests_in_flight") == 0
    assert count(client, "btchat_incoming_bytes") == 0
    assert count(client, "btchat_store_bytes") >= count(client, "btchat_store_videos") > 0
    assert count(client, "btchat_disk_free_bytes") > 0
    assert count(client, "process_resident_memory_bytes") > 0
    assert count(client, "btchat_build_info", btchat=version("btchat"), torch=version("torch")) == 1


def test_a_refusal_is_counted_by_its_code_wherever_it_is_made(client: httpx.Client) -> None:
    def refuse() -> None:
        client.post("/v1/video/frames", content=b" " * (1024 * 1024 + 1))
        client.post("/v1/video/frames", json={})
        client.patch("/v1/video/frames")
        client.get("/v1/models/x")

    codes = ("body_too_large", "missing_required_parameter", "method_not_allowed", "model_not_found", "other")
    before = [count(client, "btchat_requests_rejected_total", reason=code) for code in codes]
    refuse()
    after = [count(client, "btchat_requests_rejected_total", reason=code) for code in codes]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 1, 0]


def test_whatever_is_asked_makes_no_series_that_was_not_there(client: httpx.Client) -> None:
    def series() -> set[str]:
        page = client.get("/metrics").text
        return {line.rpartition(" ")[0] for line in page.splitlines()}

    before = series()
    for method in ("GET", "BREW", "OPTIONS", "DELETE"):
        for path in ("/v1/models/x", "/v1/video/uploads/x", "/wp-admin.php", "/docs", "/", "/openapi.json"):
            client.request(method, path)
    assert series() == before


def test_a_models_failures_have_their_code(client: httpx.Client, video: str) -> None:
    labels = {"model_name": MODEL, "code": "context_length_exceeded"}
    before = count(client, "btchat_requests_failed_total", **labels)
    client.post("/v1/video/chat", json=question(video, "!too long"))
    assert count(client, "btchat_requests_failed_total", **labels) == before + 1
