"""Values that are passed between the steps. Frozen and slotted; torch and numpy only for type checkers.

T frames, H height, W width, K pooled tokens, D width of the vision tower.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from bt_model.errors import require, too_long

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Strategy = Literal["uniform", "uniform_time", "published", "middle", "retrieval", "random"]
ResizeMode = Literal["squash", "crop", "pad"]
Role = Literal["system", "user", "assistant"]
Quantise = Literal["none", "int8", "nf4"]
Dtype = Literal["float32", "bfloat16", "float16"]
ReaderName = Literal["pyav", "decord"]
Entry = Literal["clip", "frames", "all_frames", "joint"]

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
RATE_STRATEGIES: tuple[Strategy, ...] = ("uniform", "uniform_time")  # that go with a rate
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
ENTRIES: tuple[Entry, ...] = get_args(Entry)  # how video features enter a Q-Former
MAX_FRAMES = 128
MAX_VIDEOS = 8  # of one dialogue
MAX_FPS = 240
MAX_STOPS = 4
MAX_STOP_LENGTH = 256
MAX_TOP_LOGPROBS = 20
OPTION_BOUNDS: dict[str, tuple[float, float]] = {  # of `GenerateOptions`; top_p is above its lower one
    "max_tokens": (1, 4096),
    "min_tokens": (0, 4096),
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, 1_000_000),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 10.0),  # logits divided by much less are no longer finite
    "seed": (-9_223_372_036_854_776_000, 9_223_372_036_854_776_000),  # 64 bits, as floats round them
    "logprobs": (0, MAX_TOP_LOGPROBS),
}
SPACE_MARK = "\N{LOWER ONE EIGHTH BLOCK}"  # what sentencepiece writes for a space

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # lone surrogates: legal in JSON escapes, not in UTF-8


@dataclass(frozen=True, slots=True)
class Sampling:
    """Which frames of a video the model sees: a count, or a rate, within an optional window of seconds.

    `max_frames` bounds what a rate gives; `even_above` is the model's, which takes even numbers above it.

    Raises:
        InvalidValueError: a value out of range, both `num_frames` and `fps`, or `max_frames` without `fps`.
    """

    num_frames: int | None = None
    fps: float | None = None
    max_frames: int | None = None
    start: float | None = None
    end: float | None = None
    strategy: Strategy = "uniform"
    seed: int = 0
    even_above: int = MAX_FRAMES

    def __post_init__(self) -> None:
        rate, count, most = self.fps, self.num_frames, self.max_frames
        require(
            count is None or rate is None, "sampling", f"num_frames={count}, fps={rate}", "one of the two"
        )
        require(most is None or rate is not None, "sampling.max_frames", most, "with sampling.fps only")
        for name, number in (("num_frames", count), ("max_frames", most)):
            ok = number is None or 1 <= number <= MAX_FRAMES
            require(ok, f"sampling.{name}", number, f"1 to {MAX_FRAMES}")
        require(rate is None or 0 < rate <= MAX_FPS, "sampling.fps", rate, f"above 0, up to {MAX_FPS}")
        for name, value in (("start", self.start), ("end", self.end)):
            require(value is None or 0 <= value < math.inf, f"sampling.{name}", value, "seconds, 0 or more")
        if self.end is not None:
            require(self.end > (self.start or 0.0), "sampling.end", self.end, "more than start")
        require(self.strategy in STRATEGIES, "sampling.strategy", self.strategy, ", ".join(STRATEGIES))


@dataclass(frozen=True, slots=True)
class FrameSize:
    """The square that frames are resized to.

    `squash` ignores the aspect ratio, `crop` keeps the centre, `pad` keeps everything and adds two bars.
    `whole` is no square: the shorter side becomes `side`, for training's random crops; of `wide` the width.
    """

    side: int
    fit: ResizeMode | Literal["whole", "wide"] = "crop"


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """Facts of a file as displayed: from `pix_fmt` on of its picture; `warnings` say what it lacks."""

    width: int
    height: int
    num_frames: int
    fps: float
    seconds: float
    rotation: int
    codec: str
    container: str
    has_audio: bool
    pix_fmt: str = "unknown"
    sample_aspect_ratio: str = "1:1"
    color_range: str = "unknown"
    color_space: str = "unknown"
    color_transfer: str = "unknown"
    color_primaries: str = "unknown"
    tone_mapped: bool = False
    deinterlaced: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Frames:
    """Sampled frames: `pixels` (T, H, W, 3) uint8 RGB, where they came from, and when they are shown."""

    pixels: "NDArray[np.uint8]"
    indices: tuple[int, ...]
    timestamps: tuple[float, ...]
    facts: VideoFacts
    num_wanted: int  # more than there are where the model takes an even number only
    reader: str  # the library that decoded them, not always the one that was asked for

    @property
    def num_frames(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a video stands: in the first user's turn from number `turn` on, before character `at`."""

    turn: int = 0
    at: int = 0


BEGIN = Place()


@dataclass(frozen=True, slots=True)
class VideoTokens:
    """Pooled tokens of one video, (K, D), and its place; `key` is a digest of content and processing."""

    key: bytes
    tokens: "Tensor"
    place: Place = BEGIN


@dataclass(frozen=True, slots=True)
class TokenText:
    """A token by itself: its text, and the bytes that it adds to a text; None for one that adds none."""

    text: str
    data: bytes | None

    @classmethod
    def of(cls, data: bytes) -> "TokenText":
        """Bytes that are no text are spelled as OpenAI does."""
        try:
            return cls(data.decode(), data)
        except UnicodeDecodeError:
            return cls("bytes:" + "".join(f"\\x{byte:02x}" for byte in data), data)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a dialogue."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """How to sample an answer. `temperature` 0 is greedy; None leaves a value to the backend's default.

    Raises:
        InvalidValueError: a value out of range.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    ignore_eos: bool | None = None
    seed: int | None = None
    logprobs: int | None = None  # 0: of the tokens alone; n: and of the n likeliest at each place
    min_tokens: int | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()  # (id, what is added to its logit)
    schema: str | None = None  # JSON Schema that the answer follows, as `bt_model.grammar.schema` writes it
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        def check(name: str, low: float, high: float, *, above: bool = False) -> None:
            value = getattr(self, name)
            ok = value is None or ((low < value if above else low <= value) and value <= high)  # NaN is not
            require(ok, name, value, f"{'above ' if above else ''}{low} to {high}")

        for name, (low, high) in OPTION_BOUNDS.items():
            check(name, low, high, above=name == "top_p")
        most, least = self.max_tokens, self.min_tokens
        require(most is None or (least or 0) <= most, "min_tokens", least, f"up to max_tokens, {most}")
        are_fit = all(0 < len(s) <= MAX_STOP_LENGTH and not _HALF_CHARACTER.search(s) for s in self.stop)
        allowed = f"up to {MAX_STOPS} strings of 1 to {MAX_STOP_LENGTH} characters"
        require(len(self.stop) <= MAX_STOPS and are_fit, "stop", list(self.stop), allowed)

    def or_else(self, defaults: "GenerateOptions") -> "GenerateOptions":
        """These options with all that is not given filled from `defaults`."""
        missing = [each.name for each in fields(self) if getattr(self, each.name) in (None, ())]
        picked: dict[str, Any] = {name: getattr(defaults, name) for name in missing}
        return replace(self, **picked)


def extent(text: str) -> tuple[int, int]:
    """Characters, and words between spaces."""
    return len(text), len(text.replace(SPACE_MARK, " ").split())


@dataclass(frozen=True, slots=True)
class TokenBound:
    """What one token stands for at most: characters, and words or parts of them."""

    characters: int
    words: int

    def least(self, texts: Sequence[str]) -> int:
        """No prompt that holds these texts whole has fewer tokens, whatever else is in it."""
        extents = [extent(text) for text in texts]
        num_characters = sum(characters for characters, _ in extents)
        # each text may begin in the middle of its neighbour's last word
        num_words = sum(words - 1 for _, words in extents)
        return max(math.ceil(num_characters / self.characters), math.ceil(num_words / self.words))


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the web process knows of a loaded model; `even_above` as in `Sampling`.

    `fingerprint` is of all that a video's tokens depend on, `language_fingerprint` of all that makes answers
    of them.
    """

    id: str
    backend: str
    frame_size: FrameSize
    default_frames: int
    max_frames: int
    max_context: int
    num_video_tokens: int
    video_dim: int
    fingerprint: str
    pooling: str
    notice: str = ""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    accepted: tuple[str, ...] = ()  # fit checks that failed and were overridden
    notes: tuple[str, ...] = ()  # what was adapted to make the parts fit
    even_above: int = MAX_FRAMES
    text_bound: TokenBound | None = None  # of a dialogue's texts; None: not known
    max_videos: int = 1  # in a dialogue
    language_fingerprint: str = ""
    vocab_size: int | None = None  # of the language model; None: not known

    @property
    def model_fingerprint(self) -> str:
        """Of all that an answer depends on."""
        return hashlib.sha256(f"{self.fingerprint} {self.language_fingerprint}".encode()).hexdigest()

    def check_length(self, turns: Sequence[Turn]) -> None:
        """Refuse a dialogue that is too long however it is tokenised, which would take long to find out.

        Raises:
            ContextLengthError: the context has no room for it and an answer.
        """
        least = 0 if self.text_bound is None else self.text_bound.least([turn.text for turn in turns])
        if least >= self.max_context:
            raise too_long(least, self.max_context)
