"""What a question waits for before its first text."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["load", "lookup", "decode", "encode", "answer"]


@dataclass(frozen=True, slots=True)
class WaitStep:
    """A stage; of a decode that takes a while also how many frames there are, of so many that are wanted."""

    stage: Stage
    num_frames: int = 0
    num_wanted: int = 0

    def __str__(self) -> str:
        return f"{self.stage} {self.num_frames}/{self.num_wanted}" if self.num_wanted else self.stage

    def __add__(self, other: "WaitStep") -> "WaitStep":
        """Of another video at the same stage."""
        return WaitStep(self.stage, self.num_frames + other.num_frames, self.num_wanted + other.num_wanted)


Report = Callable[[WaitStep], None]


def ignored(_step: WaitStep) -> None:
    """Nobody watches."""
