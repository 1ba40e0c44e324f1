"""How one server is deployed: the only place that reads the environment, `btchat.toml` and the flags."""

import argparse
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bt_model.errors import InvalidValueError
from bt_model.types import Dtype, Quantise

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


def _split(value: object) -> object:
    """Names may be separated by commas, wherever they come from."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        return value
    return tuple(name.strip() for each in values for name in cast(str, each).split(",") if name.strip())


Names = Annotated[tuple[str, ...], BeforeValidator(_split), Field(min_length=1)]

PREFIX = "BTCHAT_"
CONFIG_NAME = "btchat.toml"
_REPEATABLE = frozenset({"model"})
_MIB = 1024 * 1024


class Settings(BaseModel):
    """Every setting of the server, with its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    data_dir: Path = Path("btchat-data")
    model: Names = ("embedded",)
    weights_dir: Path = Path(__file__).parent.parent / "weights"
    device: str = "auto"
    dtype: Dtype | None = None
    quantise: Quantise = "none"
    model_memory_bytes: Count | None = None
    threads: Count | None = None
    api_keys_file: Path | None = None
    decoder: Literal["pyav", "decord"] = "pyav"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    max_upload_bytes: Count = 1024 * _MIB
    max_json_bytes: Count = _MIB
    max_chat_bytes: Count = 64 * _MIB  # a data URL may carry a whole clip
    max_requests: Count = 256
    max_requests_per_key: Count = 8
    decode_workers: Count | None = None
    upload_ttl_seconds: Seconds | None = None

    body_idle_seconds: Seconds = 15.0
    decode_seconds: Seconds = 30.0
    request_seconds: Seconds = 600.0
    engine_start_seconds: Seconds = 600.0
    stream_hold_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    stream_stall_seconds: Seconds = 30.0
    ping_seconds: Seconds = 10.0
    grace_seconds: Annotated[int, Field(ge=0)] = 30


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for every setting, and `--config` for the file."""
    parser.add_argument("--config", type=Path, default=None, help=f"settings file (default: ./{CONFIG_NAME})")
    for name, field in Settings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        default = ",".join(field.default) if name in _REPEATABLE else field.default
        text = f"{PREFIX}{name.upper()} (default: {default})"
        if name in _REPEATABLE:
            parser.add_argument(
                flag, default=argparse.SUPPRESS, metavar="VALUE", action="append", help=f"{text}; repeatable"
            )
        else:
            parser.add_argument(flag, default=argparse.SUPPRESS, metavar="VALUE", help=text)


def load_settings(flags: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    """Flags override BTCHAT_* variables, which override the settings file, which overrides the defaults.

    Raises:
        InvalidValueError: an unknown setting, a bad value, or a file that cannot be read; one line.
    """
    from_env = {
        name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)
    }
    from_flags = {name: value for name, value in vars(flags).items() if name in Settings.model_fields}
    values = {**_read_file(flags.config), **from_env, **from_flags}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            message = f"unknown setting {name}; known: {', '.join(Settings.model_fields)}"
        else:
            message = f"setting {name} is {str(first['input'])[:80]!r}: {first['msg']}"
        raise InvalidValueError(message, param=name) from error


def _read_file(path: Path | None) -> dict[str, Any]:
    chosen = path or Path(CONFIG_NAME)
    if path is None and not chosen.exists():
        return {}
    try:
        return tomllib.loads(chosen.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidValueError(f"cannot read settings file {chosen}: {error}", param="config") from error
