"""What an answer took."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer; `video` of the prompt tokens came from videos, `cached` from a cache."""

    prompt: int
    completion: int
    video: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion
