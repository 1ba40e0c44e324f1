"""What a request may cost, by its path: the one table that all who bound requests look into."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestCost:
    """Of a request's body: how long it may be, and how much of it is held in memory; None: all of it."""

    max_bytes: int
    held_bytes: int | None = None
    spends_tokens: bool = False


class RequestCosts:
    """A path that ends in a slash stands for all that lie right below it; /a/*/b for /a/ID/b."""

    def __init__(self, default: RequestCost, by_path: Mapping[str, RequestCost]) -> None:
        self._default = default
        self._by_path = by_path

    def of(self, path: str) -> RequestCost:
        head, _, name = path.rpartition("/")
        spellings = path, f"{head}/", f"{head[: head.rfind('/') + 1]}*/{name}"
        return next((self._by_path[each] for each in spellings if each in self._by_path), self._default)
