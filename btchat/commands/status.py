"""`btchat status`: what a server has loaded, does and stores."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from btchat.commands.server_options import SERVER_OPTIONS, ServerOptions

if TYPE_CHECKING:
    from btchat.client import Client, ModelInfo

_PREFIX, _MODEL = "btchat_", "model_name"
_GIB, _MIB = 2**30, 2**20


def status(
    *,
    json: Annotated[bool, Parameter(help="for machines")] = False,
    server: ServerOptions = SERVER_OPTIONS,
) -> int:
    """Show models, load, memory and uploads of a server, that of --url or else at http://localhost:8000.

    The exit code is 0 where it answers questions, and 1 where it does not, or not yet.
    """
    from json import dumps

    with server.client(max_retries=0) as client:
        found = report(client)
    for line in [dumps(found, indent=2)] if json else lines(found):
        print(line)
    return 0 if found["ready"] else 1


def report(client: "Client") -> dict[str, Any]:
    """Everything, as JSON values; a server that is not ready has no version, and no models.

    Raises:
        BtchatError: it cannot be reached, or refuses.
    """
    from btchat.client import BtchatAPIError

    storage = said = None
    try:
        storage = client.ready().storage
    except BtchatAPIError as error:
        said = error.message
    is_ready = said is None
    gauges = _gauges(client.metrics())
    version = client.version().model_dump(mode="json") if is_ready else None
    models = client.models() if is_ready else ()
    return {
        "url": client.base_url,
        "ready": is_ready,
        "message": said,
        "version": version,
        "models": [_of_model(each, version, gauges) for each in models],
        "requests": {
            "in_flight": _number(gauges, "num_requests_in_flight"),
            "waiting_for_a_decoder": _number(gauges, "decode_queue"),
            "engine_restarts": _number(gauges, "engine_restarts"),
        },
        "memory_bytes": {
            "web": gauges.get(("process_resident_memory_bytes", None)),
            "engine": _number(gauges, "engine_resident_memory_bytes"),
            "models": _number(gauges, "model_memory_bytes"),
            "video_tokens": _number(gauges, "feature_cache_bytes"),
            "device": _number(gauges, "device_memory_bytes"),
            "device_free": _number(gauges, "device_memory_free_bytes"),
        },
        "uploads": {
            "videos": _number(gauges, "store_videos"),
            "bytes": _number(gauges, "store_bytes"),
            "incoming_bytes": _number(gauges, "incoming_bytes"),
            "disk_free_bytes": _number(gauges, "disk_free_bytes"),
            "storage": storage,
        },
    }


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    version = found["version"]
    if version is None:
        yield f"{found['url']}  not ready: {found['message']}"
    else:
        sandbox = f"sandbox {version['sandbox']}"
        yield f"{found['url']}  ready, btchat {version['btchat']}, {version['decoder']}, {sandbox}"
    yield "models"
    width = max((len(each["id"]) for each in found["models"]), default=0)
    for each in found["models"]:
        yield f"  {each['id']:{width}}  {_model_line(each)}"
    work, memory, uploads = found["requests"], found["memory_bytes"], found["uploads"]
    waiting = f"{_whole(work['waiting_for_a_decoder'])} videos wait for a decoder"
    yield f"requests  {_whole(work['in_flight'])} in flight, {waiting}"
    known = [
        f"{name.replace('_', ' ')} {_size(value)}" for name, value in memory.items() if value is not None
    ]
    yield f"memory    {', '.join(known)}"
    stored = f"{_whole(uploads['videos'])} videos, {_size(uploads['bytes'])}"
    more = (
        f"{_size(uploads['disk_free_bytes'])} free on their disk, storage {uploads['storage'] or 'unknown'}"
    )
    yield f"uploads   {stored}, {more}"


_Gauges = dict[tuple[str, str | None], float]


def _gauges(text: str) -> _Gauges:
    """Values by name and model, of those that have no other label."""
    from prometheus_client.parser import text_string_to_metric_families

    return {
        (sample.name.removeprefix(_PREFIX), sample.labels.get(_MODEL)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if set(sample.labels) <= {_MODEL}
    }


def _number(gauges: _Gauges, name: str, model: str | None = None) -> float | None:
    return gauges.get((name, model))


def _of_model(model: "ModelInfo", version: dict[str, Any] | None, gauges: _Gauges) -> dict[str, Any]:
    facts = next((each for each in (version or {}).get("models", []) if each["id"] == model.id), {})
    return {
        "id": model.id,
        "loaded": model.loaded,
        "backend": model.backend,
        "fingerprint": model.fingerprint,
        "device": facts.get("device"),
        "dtype": facts.get("dtype"),
        "quantise": facts.get("quantise"),
        "running": _number(gauges, "num_requests_running", model.id),
        "waiting": _number(gauges, "num_requests_waiting", model.id),
        "cache_tokens_used": _number(gauges, "kv_cache_tokens_used", model.id),
        "cache_tokens": _number(gauges, "kv_cache_tokens", model.id),
    }


def _model_line(model: dict[str, Any]) -> str:
    if not model["loaded"]:
        return "not loaded"
    where = " ".join(str(model[name]).removeprefix("torch.") for name in ("device", "dtype") if model[name])
    work = f"{_whole(model['running'])} running, {_whole(model['waiting'])} waiting"
    cache = f"{_whole(model['cache_tokens_used'])} of {_whole(model['cache_tokens'])} tokens of cache"
    return ", ".join(part for part in (f"loaded {where}".rstrip(), work, cache) if part)


def _whole(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def _size(value: float | None) -> str:
    if value is None:
        return "?"
    return f"{value / _GIB:,.1f} GiB" if value >= _GIB else f"{value / _MIB:,.1f} MiB"
