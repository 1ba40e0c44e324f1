"""What an operator can watch, in one registry per application. No ids, keys, paths or URLs in labels."""

import re
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX = "btchat"
MODEL = "model_name"
"""The label that says which model a figure is about."""

# the buckets of the field's dashboards, in seconds
_FIRST_TOKEN = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
)
_BETWEEN_TOKENS = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
)
_TOKENS = tuple(float(4**power) for power in range(8))
_FRAMES = (1, 2, 4, 8, 16, 32, 64, 100, 128)
_VIDEO_SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_STAT_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_STAT_NAMES: Mapping[str, str] = {  # the engine's words to those of the field's dashboards
    "running": "num_requests_running",
    "waiting": "num_requests_waiting",
    "kv_used": "kv_cache_tokens_used",
    "kv_total": "kv_cache_tokens",
    "prefix_hits": "prefix_cache_hits_total",
    "prefix_bytes": "prefix_cache_bytes",
    "tokens_total": "engine_tokens_total",
    "alive": "engine_alive",
}


class Metrics:
    """All counters, gauges and histograms of the web process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.http_requests = self._counter("http_requests", "Answers sent", "handler", "method", "status")
        self.http_seconds = self._histogram(
            "http_request_duration_seconds", "Time to the end of the answer", _FIRST_TOKEN, "handler"
        )
        self.upload_bytes = self._counter("upload_bytes", "Bytes of acknowledged uploads")
        self.uploads = self._counter("uploads", "Acknowledged uploads")
        self.videos_decoded = self._counter("videos_decoded", "Videos whose frames were decoded")
        self.videos_encoded = self._counter("videos_encoded", "Videos encoded for a model", MODEL)
        self.feature_hits = self._counter(
            "feature_cache_hits", "Questions whose video was encoded before", MODEL
        )
        self.feature_misses = self._counter(
            "feature_cache_misses", "Questions whose video had to be encoded", MODEL
        )
        self.decode_seconds = self._histogram("video_decode_seconds", "Decoding one video", _FIRST_TOKEN)
        self.encode_seconds = self._histogram("video_encode_seconds", "Encoding one video", _FIRST_TOKEN)
        self.video_frames = self._histogram("video_frames", "Frames the model saw of one video", _FRAMES)
        self.video_seconds = self._histogram("video_duration_seconds", "Length of one video", _VIDEO_SECONDS)
        self._add_answers()
        self.engine_ready = self._gauge("engine_ready", "1 while the engine answers")
        self.engine_restarts = self._gauge("engine_restarts", "Times the engine process was started again")
        self.in_flight = self._gauge("num_requests_in_flight", "Requests that have been let in")

    def _add_answers(self) -> None:
        model = MODEL
        self.aborted = self._counter("requests_aborted", "Answers whose reader left", model)
        self.failed = self._counter("requests_failed", "Answers that ended in an error", model, "code")
        self.succeeded = self._counter("request_success", "Complete answers", model, "finished_reason")
        self.prompt_tokens = self._counter("prompt_tokens", "Tokens of all prompts", model)
        self.cached_tokens = self._counter("prompt_tokens_cached", "Prompt tokens not computed again", model)
        self.generation_tokens = self._counter("generation_tokens", "Tokens of all answers", model)
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From question to first text", _FIRST_TOKEN, model
        )
        self.between_tokens = self._histogram(
            "inter_token_latency_seconds", "Between two pieces of text", _BETWEEN_TOKENS, model
        )
        self.total_seconds = self._histogram(
            "e2e_request_latency_seconds", "From question to last text", _FIRST_TOKEN, model
        )
        self.stage_seconds = {
            stage: self._histogram(f"request_{name}_time_seconds", text, _FIRST_TOKEN, model)
            for stage, name, text in (
                ("queue", "queue", "Waiting in the engine"),
                ("prefill", "prefill", "The prompt's forward pass"),
                ("decode", "decode", "Generating the answer"),
            )
        }
        self.request_prompt_tokens = self._histogram("request_prompt_tokens", "Prompt tokens", _TOKENS, model)
        self.request_new_tokens = self._histogram(
            "request_generation_tokens", "Answer tokens", _TOKENS, model
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", text, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            f"{PREFIX}_{name}", text, labels, registry=self.registry, buckets=tuple(map(float, buckets))
        )

    def render(self, engine: Mapping[str, float], models: Mapping[str, Mapping[str, float]]) -> bytes:
        """The text exposition; the engine's own figures and its models' are added under the same prefix."""
        registry = CollectorRegistry()
        registry.register(_EngineStats(engine, models, {family.name for family in self.registry.collect()}))
        return generate_latest(self.registry) + generate_latest(registry)


class _EngineStats:
    """Names that end in `_total` are counters, the rest gauges; names of the web process are left to it."""

    def __init__(
        self, values: Mapping[str, float], models: Mapping[str, Mapping[str, float]], taken: set[str]
    ) -> None:
        self._values = values
        self._models = models
        self._taken = taken

    def collect(self) -> Iterable[Metric]:
        for given, value in self._values.items():
            yield from self._family(given, (), {(): value})
        for given in dict.fromkeys(name for values in self._models.values() for name in values):
            values = {(model,): of[given] for model, of in self._models.items() if given in of}
            yield from self._family(given, (MODEL,), values)

    def _family(
        self, given: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], float]
    ) -> Iterable[Metric]:
        name = _STAT_NAMES.get(given, given)
        family = f"{PREFIX}_{name.removesuffix('_total')}"
        if not _STAT_NAME.fullmatch(name) or family in self._taken:
            return
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        metric = kind(family, "Reported by the engine", labels=labels)
        for names, value in values.items():
            metric.add_metric(names, value)
        yield metric
