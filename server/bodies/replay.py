"""A receipt that is sent back: its request, for the same answer once more."""

from collections.abc import Mapping
from typing import Annotated, Any, cast

from pydantic import Field
from pydantic_core import PydanticCustomError

Fingerprint = Annotated[
    str | None,
    Field(
        max_length=64, description="the model's, as receipts have it; another one is 400 fingerprint_changed"
    ),
]


def replayed(value: object) -> object:
    """A body as it is or, with a `receipt` in it, the request of that and what else the body says.

    The receipt's fingerprint is that of its model: with another `model`, none is asked for.
    """
    if not isinstance(value, dict) or "receipt" not in value:
        return cast(object, value)
    others = dict(cast(Mapping[str, Any], value))
    receipt = others.pop("receipt")
    request = receipt.get("request") if isinstance(receipt, dict) else None
    if not isinstance(request, dict):
        text = "its receipt has no request: send one as an answer has it, or video and messages"
        raise PydanticCustomError("no_request", text)
    if "model" in others:
        others.setdefault("fingerprint", None)
    return {**request, **others}
