"""How one server is deployed.

A setting is one line here. Its flag, its variable, its key in the file, its help and its row in
docs/settings.md follow from its name, its type with bounds, its default and its description.
"""

from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from bt_model.assembly.catalog import WEIGHTS_DIR
from bt_model.types import Dtype, Quantise, ReaderName
from server.log.lines import LogFormat

_MIB = 1024 * 1024


def _split(value: object) -> object:
    """Names may be separated by commas in flags, environment and file alike."""
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(each, str) for each in values):
        return value
    return tuple(name.strip() for each in values for name in cast(str, each).split(",") if name.strip())


Names = Annotated[tuple[str, ...], BeforeValidator(_split), Field(min_length=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Amount = Annotated[int, Field(ge=0)]
Level = Literal["debug", "info", "warning", "error"]


class Group(BaseModel):
    """Settings that help and documentation show together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: object, info: ValidationInfo) -> object:
        """As numbers: pydantic would read true as 1."""
        if isinstance(value, bool) and cls.model_fields[cast(str, info.field_name)].annotation is not bool:
            raise ValueError("a boolean")
        return value


class Network(Group):
    """Where the server listens, and to whom."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    allowed_hosts: Names | None = Field(
        default=None,
        description="names that clients may call this server by, or *; without it any, but on a loopback "
        "address without API keys only localhost and loopback addresses",
    )
    cors_origins: Names | None = Field(
        default=None,
        description="origins whose pages browsers let use this server, such as https://pages.example; "
        "without it none",
    )
    max_connections: Count = Field(
        default=4096, description="connections at once; fewer where the process may have few descriptors"
    )
    api_keys_file: Path | None = Field(
        default=None, description="API keys, one a line, as docs/api.md tells; without it no key is asked"
    )
    wrong_keys_per_minute: Count = Field(
        default=60, description="wrong keys of one address in a minute that are told so; more are 429"
    )
    log_level: Level = Field(default="info", description="least level that is logged")
    log_format: LogFormat = Field(
        default="auto", description="form of the log's lines; auto is text on a terminal, else JSON"
    )
    log_details: bool = Field(
        default=False, description="log queries, names of files and clients' programs as well"
    )


class Models(Group):
    """What is loaded, and how."""

    model: Names = Field(
        default=("embedded",), description="names or model files; the first answers by default"
    )
    weights_dir: Path = Field(default=WEIGHTS_DIR, description="folder that model names are looked up in")
    device: str = Field(default="auto", description="where models run: auto, cpu, cuda, cuda:1 …")
    dtype: Dtype | None = Field(default=None, description="format of weights; without it the device's own")
    quantise: Quantise = Field(default="none", description="format of the language model's matrices")
    model_memory_bytes: Count | None = Field(
        default=None, description="most memory of all loaded models; without it what is free"
    )
    max_batch: Count = Field(default=64, description="answers of one model at once")
    max_context: Count | None = Field(
        default=None, description="longest prompt and answer together, in tokens; without it the model's own"
    )
    kv_bytes: Count | None = Field(
        default=None, description="memory for keys and values of one model; without it what is free"
    )
    feature_cache_bytes: Count = Field(default=1024 * _MIB, description="memory for videos' tokens")
    threads: Count | None = Field(
        default=None, description="threads of the engine; without it torch's own choice"
    )


class Videos(Group):
    """Uploads and their decoding."""

    data_dir: Path = Field(
        default=Path("btchat-data"), description="folder of the uploads, their catalogue and their tokens"
    )
    upload_ttl_seconds: Pause = Field(
        default=7 * 86_400.0, description="age at which an upload is deleted; 0 keeps it"
    )
    token_store_bytes: int = Field(
        default=4096 * _MIB,
        ge=0,
        description="most space of the uploads' tokens, which spare an encode after a restart; 0 keeps none",
    )
    encode_at_upload: bool = Field(
        default=False, description="encode uploads before anybody asks, whenever no question waits"
    )
    fetch_urls: bool = Field(
        default=False, description="fetch videos from public https addresses that clients send"
    )
    fetch_hosts: Names | None = Field(
        default=None, description="hosts that are fetched from, also as *.example.com; without it all"
    )
    fetch_ca_file: Path | None = Field(
        default=None, description="certificates that hosts may have beside those that the system trusts"
    )
    require_video: bool = Field(default=False, description="refuse a question without a video")
    decoder: ReaderName = Field(default="pyav", description="library that decodes")
    decode_workers: Count | None = Field(
        default=None, description="processes that decode; without it one a CPU"
    )
    decode_seconds: Seconds = Field(
        default=30.0,
        description="longest time to decode one video, more if frames need over 5 gigapixels decoded",
    )
    decode_most_seconds: Seconds = Field(default=300.0, description="longest time to decode any video")
    decode_queue: Count = Field(default=256, description="videos that wait to be decoded")
    decode_queue_per_key: Count = Field(
        default=128, description="videos of one API key that wait to be decoded"
    )


class Limits(Group):
    """What is refused when there is too much of it."""

    max_upload_bytes: Count = Field(default=1024 * _MIB, description="largest upload")
    max_stored_bytes: Count = Field(
        default=64 * 1024 * _MIB, description="most space of all uploads together"
    )
    max_stored_bytes_per_key: Count = Field(
        default=32 * 1024 * _MIB, description="most space of the uploads of one API key"
    )
    max_videos_per_key: Count = Field(default=100_000, description="most uploads of one API key")
    max_json_bytes: Count = Field(default=_MIB, description="largest JSON body, without videos in it")
    # a data URL may carry a whole clip
    max_chat_bytes: Count = Field(default=64 * _MIB, description="largest body of /v1/chat/completions")
    max_body_bytes_in_flight: Count = Field(
        default=256 * _MIB,
        description="most memory of bodies in flight; never less than two of the largest JSON bodies take",
    )
    max_requests: Count = Field(default=256, description="requests at once")


class Live(Group):
    """Live sessions: frames that come while questions are asked."""

    live_sessions: Count = Field(default=64, description="live sessions at once")
    live_sessions_per_key: Count | None = Field(
        default=None, description="live sessions at once of one key; without it as many as of all"
    )
    live_window_bytes: Count = Field(
        default=512 * _MIB, description="memory for what the model made of the frames of live sessions"
    )
    live_message_bytes: Count = Field(default=4 * _MIB, description="largest message of a live session")
    live_idle_seconds: Seconds = Field(default=60.0, description="longest silence in a live session")


class KeyLimits(Group):
    """What each API key may do; a line of the keys file may say otherwise (docs/api.md). 0 is no limit."""

    max_requests_per_key: Count | None = Field(
        default=None, description="requests at once of one key; without it as many as of all"
    )
    requests_per_minute: Amount = Field(default=0, description="requests of one key in a minute")
    tokens_per_minute: Amount = Field(
        default=0, description="tokens of prompts and answers of one key in a minute"
    )
    video_seconds_per_day: Amount = Field(
        default=0, description="seconds of video that are decoded for one key in a day"
    )


class Times(Group):
    """How long things may take."""

    header_seconds: Seconds = Field(default=10.0, description="longest time for a request's headers to come")
    body_idle_seconds: Seconds = Field(default=15.0, description="longest silence in a body that is received")
    resumable_seconds: Seconds = Field(
        default=86_400.0, description="longest pause of an upload in pieces, which is then deleted"
    )
    fetch_seconds: Seconds = Field(default=120.0, description="longest fetch of a video from an address")
    min_body_rate: Count = Field(
        default=8192,
        description="bytes that earn a body, or a reader, another second beyond the longest silence",
    )
    keep_alive_seconds: Seconds = Field(
        default=10.0, description="how long a connection may wait for another request"
    )
    request_seconds: Seconds = Field(default=600.0, description="longest request")
    engine_start_seconds: Seconds = Field(default=600.0, description="longest start of the engine process")
    watchdog_seconds: Seconds = Field(
        default=300.0, description="longest step or encode of the engine process, which is then started again"
    )
    stream_hold_seconds: Pause = Field(default=2.0, description="how long headers wait for the first words")
    stream_stall_seconds: Seconds = Field(
        default=30.0, description="how long a client may read nothing of its answer"
    )
    ping_seconds: Seconds = Field(default=10.0, description="time between keep-alive comments in a stream")
    grace_seconds: int = Field(default=30, ge=0, description="time for running requests after a signal")


class Settings(Times, Live, KeyLimits, Limits, Videos, Models, Network):
    """Every setting of the server, with its default. A rule between settings is a validator of this class."""
