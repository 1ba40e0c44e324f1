"""`btchat serve` and `python -m server`: one flag for every setting."""

# ruff: noqa: B008 - groups of settings are frozen

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from server.command.sources import load_settings
from server.settings import KeyLimits, Limits, Live, Models, Network, Times, Videos

_CONFIG = (
    "settings file (default: ./btchat.toml, if it is there). Above it stand variables (BTCHAT_PORT for "
    "--port), above those flags, below it secrets (/run/secrets/btchat_port)"
)


def _shown_as(title: str) -> Parameter:
    """A group of settings as flags of their own, under a title in the help."""
    return Parameter(name="*", group=Group.create_ordered(title), negative_iterable=())


def serve(
    *,
    config: Annotated[Path | None, Parameter(help=_CONFIG)] = None,
    network: Annotated[Network, _shown_as("Network")] = Network(),
    models: Annotated[Models, _shown_as("Models")] = Models(),
    videos: Annotated[Videos, _shown_as("Videos")] = Videos(),
    limits: Annotated[Limits, _shown_as("Limits")] = Limits(),
    keys: Annotated[KeyLimits, _shown_as("Each API key")] = KeyLimits(),
    live: Annotated[Live, _shown_as("Live sessions")] = Live(),
    times: Annotated[Times, _shown_as("Times")] = Times(),
) -> int:
    """Start the server."""
    settings = load_settings((network, models, videos, limits, keys, live, times), config)
    from server.main import serve as serve_with  # half a second, which help does without

    return serve_with(settings)
