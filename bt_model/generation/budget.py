"""How much of the prompts a step computes, so that running streams are not held up by newcomers."""

_WHOLE = 512  # tokens of a pass; more do not make it more efficient
_LEAST = 64  # fewer make matrix products inefficient, and a prompt endless
_STRETCH = 2.0  # times what a step's rows take, for prompts beside them
_PARTS = 2  # of a pass that should fit into that time


class PassBudget:
    """Learns what rows and the parts of a pass take, and divides."""

    def __init__(self) -> None:
        self._rows_seconds = 0.0
        self._token_seconds = 0.0  # of a part, for each token of its pass

    @property
    def seconds(self) -> float:
        """For prompts in a step beside rows."""
        return _STRETCH * self._rows_seconds

    def tokens(self, num_rows: int) -> int:
        """Of a pass that begins beside so many rows."""
        if not num_rows or not self._rows_seconds or not self._token_seconds:
            return _WHOLE
        return min(max(int(self.seconds / _PARTS / self._token_seconds), _LEAST), _WHOLE)

    def rows_took(self, seconds: float) -> None:
        """A step's rows."""
        self._rows_seconds = seconds

    def part_took(self, seconds: float, num_tokens: int) -> None:
        """The longest part of the last pass, which had so many tokens."""
        self._token_seconds = seconds / num_tokens
