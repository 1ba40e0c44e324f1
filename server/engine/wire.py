"""Messages between the web process and the engine process: length-prefixed msgpack with a fixed schema.

Frames and tokens are sealed memory files whose descriptors are sent with the message that names them;
neither side ever unpickles anything.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from server.engine.live_wire import LiveClose, LiveEncode, LiveFrame, LiveOpen
from server.engine.message import Message

# --- web -> engine


@dataclass(frozen=True, slots=True)
class Open(Message):
    """Load this model where it is not loaded. Answered by `Opened`."""

    id: str
    model: str


@dataclass(frozen=True, slots=True)
class Compile(Message):
    """Make ready to answer by a JSON schema, given as its text. Answered by `Compiled`."""

    id: str
    model: str
    owner: str
    schema: str


@dataclass(frozen=True, slots=True)
class Lookup(Message):
    """Are this key's tokens cached? Answered by `Features`."""

    id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Encode(Message):
    """Encode one clip for several models. Descriptor: uint8 (T, height, width, 3). Answered by `Encoded`.

    `targets` are [model, key] pairs; models that share a tower share one pass through it. `receipt` is stored
    with the tokens and returned on every later hit.
    """

    id: str
    targets: list[list[Any]]
    num_frames: int
    height: int
    width: int
    receipt: dict[str, Any]
    num_fds: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Fetch(Message):
    """The pooled tokens themselves. Answered by `TokenData`, or `Failed` with code features_missing."""

    id: str
    key: bytes


@dataclass(frozen=True, slots=True)
class Ask(Message):
    """Answer a dialogue with one model.

    What is computed of a prompt is kept for later ones of the same `owner`.

    `videos` are [key of the tokens, turn, place in its text], in the order of the dialogue; `turns` are
    (role, text) pairs; `options` the fields of GenerateOptions that were given.
    Answered by `Piece`*, then exactly one of `Done` or `Failed`.
    """

    id: str
    model: str
    owner: str
    videos: list[list[Any]]
    turns: list[list[str]]
    options: dict[str, Any]
    timeout: float


@dataclass(frozen=True, slots=True)
class Measure(Message):
    """How long is the prompt of this dialogue? Answered by `Measured`.

    Its `videos` are [turn, place in its text]. No language model runs.
    """

    id: str
    model: str
    videos: list[list[int]]
    turns: list[list[str]]


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """Stop answering `id`; its terminal message follows within one step."""

    id: str


@dataclass(frozen=True, slots=True)
class Forget(Message):
    """Drop the cached tokens of all keys that begin so (a video was deleted). No answer."""

    prefix: bytes


@dataclass(frozen=True, slots=True)
class AskStats(Message):
    """Answered by `Stats`."""

    id: str


@dataclass(frozen=True, slots=True)
class Shutdown(Message):
    """Finish running answers for up to `drain` seconds, then exit."""

    drain: float


Request = (
    Open | Compile | Lookup | Encode | Fetch | Ask | Measure | AskStats | LiveOpen | LiveFrame | LiveEncode
)
"""What is answered by at least one message of the same id."""

# --- engine -> web


@dataclass(frozen=True, slots=True)
class Loading(Message):
    """A model's file number `number` of `count` is being read."""

    model: str
    number: int
    count: int


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """Sent once when the first model is loaded: its card's fields, and the names of all models."""

    card: dict[str, Any]
    models: list[str]


@dataclass(frozen=True, slots=True)
class StartFailed(Message):
    """Sent instead of `Ready`; the process exits."""

    message: str


@dataclass(frozen=True, slots=True)
class Holding(Message):
    """The models that are loaded now; sent whenever that changes."""

    models: list[str]


@dataclass(frozen=True, slots=True)
class Opened(Message):
    """The fields of a loaded model's card."""

    id: str
    card: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Compiled(Message):
    """The model can follow that schema."""

    id: str


@dataclass(frozen=True, slots=True)
class Features(Message):
    """Whether a key's tokens are in the cache now, and the receipt that is stored with them."""

    id: str
    found: bool
    receipt: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Encoded(Message):
    """A clip's tokens are in the cache, except for the models in `failures`.

    `failures`: model -> [class name in bt_model.errors, message, code, param].
    """

    id: str
    failures: dict[str, list[Any]]
    seconds: float


@dataclass(frozen=True, slots=True)
class TokenData(Message):
    """Descriptor: a safetensors file with the tensor `tokens` (K, D)."""

    id: str
    num_bytes: int
    shape: list[int]
    dtype: str
    num_fds: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Measured(Message):
    """Tokens of a prompt, and those of its videos among them."""

    id: str
    num_prompt: int
    num_video: int


@dataclass(frozen=True, slots=True)
class Piece(Message):
    """New text of one answer; whole code points only.

    `logprobs`, if they were asked for: [text, bytes or None, log probability, likeliest] of each token since
    the last piece; the likeliest tokens at its place are [text, bytes or None, log probability].
    `num_prompt` and `num_new` are the tokens of prompt and answer so far.
    """

    id: str
    text: str
    logprobs: list[list[Any]]
    num_prompt: int = 0
    num_new: int = 0


@dataclass(frozen=True, slots=True)
class Done(Message):
    """The answer is complete. `usage`: fields of Usage. `seconds`: queue, prefill, decode."""

    id: str
    reason: str
    usage: dict[str, int]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Failed(Message):
    """One request failed; `error` is the class name in bt_model.errors."""

    id: str
    error: str
    message: str
    code: str
    param: str | None


@dataclass(frozen=True, slots=True)
class Stats(Message):
    """Counters and gauges of the engine by metric name; `models` has those of each loaded model."""

    id: str
    values: dict[str, float]
    models: dict[str, dict[str, float]]


MESSAGES: tuple[type[Message], ...] = (
    Open, Compile, Lookup, Encode, Fetch, Ask, Measure, Cancel, Forget, AskStats, Shutdown,
    LiveOpen, LiveFrame, LiveEncode, LiveClose,
    Loading, Ready, StartFailed, Holding, Opened, Compiled, Features, Encoded, TokenData, Measured, Piece,
    Done, Failed, Stats,
)  # fmt: skip
