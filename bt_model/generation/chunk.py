"""What one sequence adds in one step of the engine."""

from dataclasses import dataclass

PAGE = 128  # positions of a page of the KV cache
BLOCK = (
    64  # of a prompt, whose queries are computed at once; an end in the middle of one costs a whole one more
)


def pages_of(positions: int) -> int:
    """Pages that so many positions take."""
    return -(-positions // PAGE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Positions start..start + count of a sequence whose keys and values lie in `pages`.

    A prompt comes in chunks of any size; a generated token is a chunk of its own. `is_last`: the logits of
    its last position are wanted.
    """

    pages: tuple[int, ...]
    start: int
    count: int
    is_prompt: bool
    is_last: bool = True

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def used_pages(self) -> tuple[int, ...]:
        """Those in which something stands after this chunk."""
        return self.pages[: pages_of(self.end)]
