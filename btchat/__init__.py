"""btchat answers questions about videos: `Client` and `AsyncClient` ask a server."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from btchat.client.asynchronous import AsyncClient
    from btchat.client.synchronous import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """A client is loaded when it is first named: commands, and their help, do without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from btchat import client

    return getattr(client, name)
