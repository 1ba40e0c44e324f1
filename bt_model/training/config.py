"""The weights of the pre-training losses, and what a captioner is asked."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossWeights:
    """Weights of the three pre-training losses (paper, section 3.2), and of three that go beyond the paper.

    `chat` contrasts with the caption what a chat model reads, seen through the rest of the frozen trunk as if
    it were one picture's; `caption` is how unlikely a frozen model that captions pictures finds the clip's
    caption when it reads the same; `anchor` holds the branch half of it to the trunk's own mean over time.
    """

    vtc: float = 1.0
    mbta: float = 1.0
    mbca: float = 1.0
    chat: float = 0.0
    caption: float = 0.0
    anchor: float = 0.0

    @property
    def go_beyond(self) -> bool:
        """Whether a loss counts that the paper does not have."""
        return any(getattr(self, name) for name in BEYOND)


BEYOND = ("chat", "caption", "anchor")
CAPTION_REQUEST = "Describe what you see."
