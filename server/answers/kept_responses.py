"""Responses that later requests may go on from, in memory for a while."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

from bt_model.errors import InvalidValueError, UnknownNameError

KEPT_SECONDS = 3600.0
MAX_BYTES = 64 * 1024 * 1024
MAX_BYTES_OF_ONE = 8 * 1024 * 1024
"""Of one tenant's, so that nobody drives out all others'."""


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """A response, and the dialogue up to its end; None if that showed a video that is gone."""

    tenant: str
    body: Mapping[str, Any]
    dialogue: tuple[dict[str, Any], ...] | None
    until: float
    num_bytes: int

    @property
    def id(self) -> str:
        return self.body["id"]


class KeptResponses:
    """The newest of each tenant; a restart forgets them."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._of_tenant: defaultdict[str, dict[str, KeptResponse]] = defaultdict(dict)  # the oldest first
        self._messages: dict[str, str] = {}  # responses by the ids of their messages
        self._num_bytes: Counter[str] = Counter()

    def keep(self, tenant: str, body: Mapping[str, Any], dialogue: tuple[dict[str, Any], ...] | None) -> None:
        """Keep one, and forget the oldest that leave it no room."""
        num_bytes = len(json.dumps([body, dialogue]))
        if num_bytes > MAX_BYTES_OF_ONE:
            return
        own = self._of_tenant[tenant]
        kept = KeptResponse(tenant, body, dialogue, self._now() + KEPT_SECONDS, num_bytes)
        own[kept.id] = kept
        self._messages |= dict.fromkeys(_items(kept), kept.id)
        self._num_bytes[tenant] += num_bytes
        while (oldest := next(iter(own.values()))).until <= self._now() or self._num_bytes[tenant] > (
            MAX_BYTES_OF_ONE
        ):
            self._drop(oldest)
        while self._num_bytes.total() > MAX_BYTES:
            ((largest, _),) = self._num_bytes.most_common(1)
            self._drop(next(iter(self._of_tenant[largest].values())))

    def get(self, tenant: str, response_id: str) -> KeptResponse:
        """Raises UnknownNameError where this tenant has no such response."""
        kept = self._of_tenant.get(tenant, {}).get(response_id)
        if kept is None or kept.until <= self._now():
            text = f"no response {response_id[:80]!r}; they are kept for an hour, unless `store` is false"
            raise UnknownNameError(text, code="response_not_found", param="response_id")
        return kept

    def delete(self, tenant: str, response_id: str) -> None:
        """Raises as `get`."""
        self._drop(self.get(tenant, response_id))

    def dialogue(self, tenant: str, response_id: str) -> tuple[dict[str, Any], ...]:
        """What was said up to the end of a response.

        Raises:
            InvalidValueError: it is not known, or showed a video that came inside of its request.
        """
        param = "previous_response_id"
        try:
            kept = self.get(tenant, response_id)
        except UnknownNameError as error:
            text = f"{error.message}; send the whole dialogue as input"
            raise InvalidValueError(text, code="previous_response_not_found", param=param) from error
        if kept.dialogue is None:
            text = (
                "the dialogue of that response showed a video that came inside of its request and is gone; "
                "upload videos, send their ids, and later requests can go on from them"
            )
            raise InvalidValueError(text, code="previous_response_not_found", param=param)
        return kept.dialogue

    def message(self, tenant: str, message_id: str) -> dict[str, Any]:
        """What a response said, by the id of its message. Raises InvalidValueError where it is not known."""
        try:
            kept = self.get(tenant, self._messages.get(message_id, ""))
        except UnknownNameError as error:
            text = f"no message {message_id[:80]!r} of a response that is kept; send its text"
            raise InvalidValueError(text, code="item_not_found", param="input") from error
        (item,) = kept.body["output"]
        return {"role": "assistant", "content": item["content"][0]["text"]}

    def _drop(self, kept: KeptResponse) -> None:
        del self._of_tenant[kept.tenant][kept.id]
        self._num_bytes[kept.tenant] -= kept.num_bytes
        for message_id in _items(kept):
            self._messages.pop(message_id, None)


def _items(kept: KeptResponse) -> list[str]:
    return [item["id"] for item in kept.body["output"]]
