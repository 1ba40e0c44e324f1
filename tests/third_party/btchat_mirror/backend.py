"""Says the question backwards, and how many video tokens came with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bt_model.backends.base import BackendFiles
from bt_model.backends.echo import EchoBackend
from bt_model.generation.request import Segment
from bt_model.prompt.turns import check_turns
from bt_model.types import GenerateOptions, TokenBound, TokenText, Turn, VideoTokens


@dataclass(frozen=True, slots=True)
class MirrorBackend:
    """The echo backend's language model behind a prompt of our own."""

    echo: EchoBackend
    stop_strings: tuple[str, ...] = ()
    text_bound: TokenBound | None = None
    max_videos: int = 8

    @property
    def lm(self):
        return self.echo.lm

    @property
    def stop_token_ids(self) -> frozenset[int]:
        return self.echo.stop_token_ids

    @property
    def defaults(self) -> GenerateOptions:
        return self.echo.defaults

    def segments(self, turns: Sequence[Turn], videos: Sequence[VideoTokens]) -> tuple[Segment, ...]:
        check_turns(turns)
        seen = sum(len(video.tokens) for video in videos)
        last = replace(turns[-1], text=f"{turns[-1].text[::-1]} ({seen} video tokens)")
        return self.echo.segments([*turns[:-1], last], videos)

    def encode(self, text: str) -> Sequence[int]:
        return self.echo.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.echo.decode(ids)

    def token(self, number: int) -> TokenText:
        return self.echo.token(number)


def create(files: BackendFiles) -> MirrorBackend:
    """Called once, when a model file names the backend `mirror`."""
    return MirrorBackend(EchoBackend())
