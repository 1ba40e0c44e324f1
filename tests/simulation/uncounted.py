"""Metrics that count nothing: what is counted is no part of what a simulation looks at, and takes time."""

from collections.abc import Callable, Iterable
from typing import Any

from server.metrics import Metrics


class _Nothing:
    def labels(self, *_names: str) -> "_Nothing":
        return self

    def inc(self, _amount: float = 1) -> None: ...

    def observe(self, _amount: float) -> None: ...

    def set(self, _amount: float) -> None: ...

    def set_function(self, _function: Callable[[], float]) -> None: ...


class Uncounted(Metrics):
    """The methods of metrics, with their arguments."""

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return _Nothing()

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return _Nothing()

    def _histogram(self, name: str, text: str, buckets: Iterable[float], *labels: str) -> Any:
        return _Nothing()
