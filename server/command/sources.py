"""Where settings come from: the only place that reads the environment, `btchat.toml` and secrets."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SecretsSettingsSource, SettingsConfigDict

from bt_model.errors import InvalidValueError, require
from bt_model.settings.refusal import invalid_value
from bt_model.settings.toml_file import read_toml
from server.settings import Group, Settings

PREFIX = "BTCHAT_"
CONFIG_NAME = "btchat.toml"
SECRETS_DIR = Path("/run/secrets")
SECRETS_VARIABLE = "BTCHAT_SECRETS_DIR"  # where secrets lie cannot be a setting that lies there itself
CLIENT_VARIABLES = frozenset({"BTCHAT_URL", "BTCHAT_API_KEY", "BTCHAT_KEY_FILE"})
"""Of a client in the same shell: no settings, and no mistakes."""


class _Named(Settings, BaseSettings):
    """The settings as variables and secrets are called; only their sources look at this class."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, enable_decoding=False, env_ignore_empty=True)


def load_settings(flags: Iterable[Group] = (), config: Path | None = None) -> Settings:
    """What was set as flags, above BTCHAT_* variables, above `btchat.toml`, above secrets, above defaults.

    Args:
        flags: groups, of which the fields count that were set.
        config: the settings file; without one, `btchat.toml` of the current folder if there is one.

    Raises:
        InvalidValueError: an unknown setting, a bad value, or a file that cannot be read; one line.
    """
    _refuse_unknown(os.environ)
    given = {name: getattr(group, name) for group in flags for name in group.model_fields_set}
    try:
        return Settings.model_validate({**_secrets(), **_file(config), **_variables(), **given})
    except ValidationError as error:
        raise invalid_value(error, Settings) from error


def _refuse_unknown(variables: Iterable[str]) -> None:
    """pydantic-settings looks for the names it knows, and so misses those that are misspelt."""
    known = {f"{PREFIX}{name}".upper(): name for name in Settings.model_fields}
    for variable in variables:
        name = variable.upper()
        if name.startswith(PREFIX) and name not in {SECRETS_VARIABLE, *CLIENT_VARIABLES, *known}:
            allowed = ", ".join(known)
            raise InvalidValueError(f"{variable} is not known; allowed: {allowed}", param=variable)


def _variables() -> dict[str, Any]:
    return EnvSettingsSource(_Named)()


def _file(config: Path | None) -> dict[str, Any]:
    if config is None and not Path(CONFIG_NAME).exists():
        return {}
    return read_toml(config or Path(CONFIG_NAME))


def _secrets() -> dict[str, Any]:
    given = os.environ.get(SECRETS_VARIABLE)
    folder = Path(given or SECRETS_DIR)
    if not folder.is_dir():
        require(not given, SECRETS_VARIABLE, str(folder), "a folder")
        return {}
    # what an empty file means is what an empty variable means, but its source does not know so
    return {name: value for name, value in SecretsSettingsSource(_Named, folder)().items() if value != ""}
