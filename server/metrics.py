"""Prometheus metrics, in one registry per application. No ids, keys, paths or URLs in labels."""

import platform
import re
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.routing import BaseRoute, Route

from bt_model.decoding.decoded import Decoded
from server.engine.usage import Usage
from server.problems import CODES, METHODS

PREFIX = "btchat"
MODEL = "model_name"
"""The label that says which model a figure is about."""

UNMATCHED = "unmatched"
OTHER = "other"
"""The values of labels for what a client may call as it likes: paths that are no route, methods, codes."""

AheadOutcome = Literal["encoded", "known", "dropped", "cancelled", "failed"]
"""`known`: somebody had asked; `dropped`: too many waited, or the model was unloaded."""
FrameOutcome = Literal["kept", "dropped", "failed"]
"""`dropped`: newer ones came before it could be decoded, or there was no room; `failed`: it is no picture."""

_GAUGES: Mapping[str, str] = {
    "live_sessions": "Live sessions that are open",
    "engine_ready": "1 while the engine answers",
    "engine_restarts": "Times the engine process was started again",
    "num_requests_in_flight": "Requests that have been let in",
    "decode_queue": "Videos that wait for a decode child",
    "body_bytes_in_flight": "Bytes of bodies that are held in memory",
    "incoming_bytes": "Bytes of uploads that are being received",
    "store_bytes": "Bytes of stored uploads",
    "store_videos": "Uploads that are stored",
    "disk_free_bytes": "Bytes that are free on the disk of the uploads",
}
_STATUSES = ("2xx", "3xx", "4xx", "5xx", "none")  # none: the client left before there was one
_REASONS = frozenset(code for codes in CODES.values() for code in codes)
# seconds; the buckets that other inference servers' dashboards use
_SHORT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_PAUSES = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_TOKENS = tuple(float(4**power) for power in range(8))
_FRAMES = (1, 2, 4, 8, 16, 32, 64, 100, 128)
_VIDEO_SECONDS = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
_STAT_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_STAT_NAMES: Mapping[str, str] = {  # the engine's names to those of other inference servers' dashboards
    "running": "num_requests_running",
    "waiting": "num_requests_waiting",
    "kv_used": "kv_cache_tokens_used",
    "kv_total": "kv_cache_tokens",
    "prefix_hits": "prefix_cache_hits_total",
    "prefix_queries": "prefix_cache_queries_total",
    "preemptions": "num_preemptions_total",
    "prefix_bytes": "prefix_cache_bytes",
    "tokens_total": "engine_tokens_total",
    "busy_seconds": "engine_step_running_seconds",
    "alive": "engine_alive",
}


class Metrics:
    """All counters, gauges and histograms of the web process: a method for each thing that is counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._handlers = frozenset[str]()
        self._requests = self._counter("http_requests", "Answers sent", "handler", "method", "status")
        self._request_seconds = self._histogram(
            "http_request_duration_seconds", "Time to the end of the answer", _SHORT, "handler"
        )
        self._rejected = self._counter("requests_rejected", "Requests refused, by the error's code", "reason")
        self._upload_bytes = self._counter("upload_bytes", "Bytes of acknowledged uploads")
        self._uploads = self._counter("uploads", "Acknowledged uploads")
        self._decoded = self._counter("videos_decoded", "Videos whose frames were decoded")
        self._packets = self._counter(
            "decode_packets", "Packets that were demuxed to find out what is there, and for frames", "for"
        )
        for purpose in ("scan", "read"):
            self._packets.labels(purpose)
        self._decode_seconds = self._histogram("video_decode_seconds", "Decoding one video", _SHORT)
        self._frames = self._histogram("video_frames", "Frames the model saw of one video", _FRAMES)
        self._video_seconds = self._histogram("video_duration_seconds", "Length of one video", _VIDEO_SECONDS)
        self._encoded = self._counter("videos_encoded", "Videos encoded for a model", MODEL)
        self._encode_seconds = self._histogram("video_encode_seconds", "Encoding one video", _SHORT)
        self._hits = self._counter("feature_cache_hits", "Questions whose video was encoded before", MODEL)
        self._misses = self._counter("feature_cache_misses", "Questions whose video had to be encoded", MODEL)
        self._ahead = self._counter(
            "uploads_encoded_ahead", "Uploads by what became of encoding them ahead", "outcome"
        )
        self._live_frames = self._counter(
            "live_frames", "Frames of live sessions by what became of them", "outcome"
        )
        for outcome in get_args(FrameOutcome):
            self._live_frames.labels(outcome)
        self._gauges = {
            name: Gauge(f"{PREFIX}_{name}", text, registry=self.registry) for name, text in _GAUGES.items()
        }
        self._add_answers()
        self._add_process()

    def _add_answers(self) -> None:
        self._aborted = self._counter("requests_aborted", "Answers whose reader left", MODEL)
        self._failed = self._counter("requests_failed", "Answers that ended in an error", MODEL, "code")
        self._succeeded = self._counter("request_success", "Complete answers", MODEL, "finished_reason")
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of all prompts", MODEL)
        self._cached_tokens = self._counter("prompt_tokens_cached", "Prompt tokens not computed again", MODEL)
        self._new_tokens = self._counter("generation_tokens", "Tokens of all answers", MODEL)
        self._first_text = self._histogram(
            "time_to_first_token_seconds", "From question to first text", _SHORT, MODEL
        )
        self._pauses = self._histogram(
            "inter_token_latency_seconds", "Between two pieces of text", _PAUSES, MODEL
        )
        self._total_seconds = self._histogram(
            "e2e_request_latency_seconds", "From question to last text", _SHORT, MODEL
        )
        self._stage_seconds = {
            stage: self._histogram(f"request_{stage}_time_seconds", text, _SHORT, MODEL)
            for stage, text in (
                ("queue", "Waiting in the engine"),
                ("prefill", "The prompt's forward pass"),
                ("decode", "Generating the answer"),
            )
        }
        self._prompt_sizes = self._histogram("request_prompt_tokens", "Prompt tokens", _TOKENS, MODEL)
        self._answer_sizes = self._histogram("request_generation_tokens", "Answer tokens", _TOKENS, MODEL)

    def _add_process(self) -> None:
        ProcessCollector(registry=self.registry)
        facts = {name: version(name) for name in ("btchat", "torch", "av")} | {
            "python": platform.python_version()
        }
        self._info = Gauge(f"{PREFIX}_build_info", "Versions", tuple(facts), registry=self.registry)
        self._info.labels(**facts).set(1)

    def watch(self, **gauges: Callable[[], float]) -> None:
        """Where gauges are read, whenever they are shown.

        Raises:
            KeyError: no such gauge.
        """
        for name, read in gauges.items():
            self._gauges[name].set_function(read)

    def expect(self, routes: Iterable[BaseRoute]) -> None:
        """Show all that may be counted of these routes from the beginning.

        A request then makes no series that was not there, whatever it asks for.
        """
        asked = [
            (route.path, method)
            for route in routes
            if isinstance(route, Route) and route.include_in_schema
            for method in route.methods or ()
        ]
        asked += [(path, "HEAD") for path, method in asked if method == "GET"]
        self._handlers = frozenset(handler for handler, _ in asked)
        for handler, method in (*asked, *((UNMATCHED, method) for method in (*METHODS, OTHER))):
            for status in _STATUSES:
                self._requests.labels(handler, method, status)
        self._requests.labels(UNMATCHED, "GET", "3xx")  # from the root to the documentation
        for handler in (*self._handlers, UNMATCHED):
            self._request_seconds.labels(handler)
        for reason in (*_REASONS, OTHER):
            self._rejected.labels(reason)

    def requested(self, path: str, method: str, status: str, seconds: float) -> None:
        """A request was answered; `path` is its route's template."""
        handler = path if path in self._handlers else UNMATCHED
        method = method if method in METHODS else OTHER
        self._requests.labels(handler, method, status).inc()
        self._request_seconds.labels(handler).observe(seconds)

    def rejected(self, code: str) -> None:
        """A request was refused with this code."""
        self._rejected.labels(code if code in _REASONS else OTHER).inc()

    def uploaded(self, num_bytes: int) -> None:
        """An upload was acknowledged."""
        self._uploads.inc()
        self._upload_bytes.inc(num_bytes)

    def demuxed(self, decoded: Decoded) -> None:
        """Packets of a video were read."""
        self._packets.labels("scan").inc(decoded.demuxed.scan)
        self._packets.labels("read").inc(decoded.demuxed.read)

    def decoded(self, frames: Decoded) -> None:
        """A video's frames were decoded, for a model or to be shown."""
        self.demuxed(frames)
        self._decoded.inc()
        self._decode_seconds.observe(frames.seconds)
        self._frames.observe(frames.num_frames)
        self._video_seconds.observe(frames.facts.seconds)

    def encoded(self, seconds: float, models: Iterable[str]) -> None:
        """A video was encoded for these models."""
        self._encode_seconds.observe(seconds)
        for model in models:
            self._encoded.labels(model).inc()

    def encoded_ahead(self, outcome: AheadOutcome) -> None:
        """An upload was encoded before anybody asked, or was not."""
        self._ahead.labels(outcome).inc()

    def live_frame(self, outcome: FrameOutcome) -> None:
        """What became of a frame of a live session."""
        self._live_frames.labels(outcome).inc()

    def looked_up(self, model: str, *, is_hit: bool) -> None:
        """Whether a question's video had been encoded before."""
        (self._hits if is_hit else self._misses).labels(model).inc()

    def wrote(self, model: str, seconds: float, *, is_first: bool) -> None:
        """New text of an answer, so long after its question or after the last text."""
        (self._first_text if is_first else self._pauses).labels(model).observe(seconds)

    def aborted(self, model: str) -> None:
        """An answer's reader left."""
        self._aborted.labels(model).inc()

    def failed(self, model: str, code: str) -> None:
        """An answer ended in an error."""
        self._failed.labels(model, code).inc()

    def answered(
        self, model: str, reason: str, usage: Usage, stages: Mapping[str, float], seconds: float
    ) -> None:
        """An answer is complete; `stages` are the engine's seconds."""
        self._succeeded.labels(model, reason).inc()
        self._prompt_tokens.labels(model).inc(usage.prompt)
        self._cached_tokens.labels(model).inc(usage.cached)
        self._new_tokens.labels(model).inc(usage.completion)
        self._prompt_sizes.labels(model).observe(usage.prompt)
        self._answer_sizes.labels(model).observe(usage.completion)
        self._total_seconds.labels(model).observe(seconds)
        for stage, histogram in self._stage_seconds.items():
            histogram.labels(model).observe(stages[stage])

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(
            f"{PREFIX}_{name}", text, labels, registry=self.registry, buckets=tuple(map(float, buckets))
        )

    def render(self, engine: Mapping[str, float], models: Mapping[str, Mapping[str, float]]) -> bytes:
        """The text exposition, with the statistics of the engine and its models under the same prefix."""
        registry = CollectorRegistry()
        registry.register(_EngineStats(engine, models, {family.name for family in self.registry.collect()}))
        return generate_latest(self.registry) + generate_latest(registry)


class _EngineStats:
    """Names that end in `_total` are counters, the rest gauges; the web process's own names are skipped."""

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
