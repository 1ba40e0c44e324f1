"""What all messages between the web process and the engine process have in common."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages: plain values only."""

    num_fds: ClassVar[int] = 0
