"""What an answer took, as a `Server-Timing` header, which browsers and proxies show."""

from collections.abc import Mapping, Sequence

from server.answers.question import AnswerEvent, Finished

_STEPS = ("queue", "decode", "encode", "prefill", "generate", "total")


def server_timing(seconds: Mapping[str, float]) -> dict[str, str]:
    """The header, in milliseconds, of those steps that are known; none of none."""
    parts = [f"{name};dur={1e3 * seconds[name]:.1f}" for name in _STEPS if name in seconds]
    return {"server-timing": ", ".join(parts)} if parts else {}


def timing_of(events: Sequence[AnswerEvent]) -> dict[str, str]:
    """Of whole answers: that of the one which took longest."""
    seconds = [event.receipt["seconds"] for event in events if isinstance(event, Finished)]
    return server_timing(max(seconds, key=lambda each: each["total"], default={}))
