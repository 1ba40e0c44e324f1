"""How much of the prompts a step computes, so that running streams are not held up by newcomers."""

_WHOLE = 512  # tokens of a pass; more do not make it more efficient
_LEAST = 64  # fewer make matrix products inefficient, and a prompt endless
_STRETCH = 2.5  # a step with prompts may take so many times what its rows take in the mean
_MEMORY = 0.8  # of earlier steps in each new mean
_PARTS = 2  # of a pass that should fit into that time


class PassBudget:
    """Learns what rows and the parts of a pass take, and divides."""

    def __init__(self) -> None:
        self._rows_seconds: float | None = None  # in the mean
        self._seconds = 0.0
        self._token_seconds = 0.0  # of a part, for each token of its pass

    @property
    def seconds(self) -> float:
        """For prompts, in a step whose rows are computed."""
        return self._seconds

    def tokens(self, num_rows: int) -> int:
        """Of a pass that begins beside so many rows."""
        if not num_rows or not self._rows_seconds or not self._token_seconds:
            return _WHOLE
        seconds = (_STRETCH - 1) * self._rows_seconds
        return min(max(int(seconds / _PARTS / self._token_seconds), _LEAST), _WHOLE)

    def rows_took(self, seconds: float) -> None:
        """A step's rows."""
        mean = self._rows_seconds
        self._rows_seconds = seconds if mean is None else _MEMORY * mean + (1 - _MEMORY) * seconds
        self._seconds = _STRETCH * self._rows_seconds - seconds

    def part_took(self, seconds: float, num_tokens: int) -> None:
        """The longest part of the last pass, which had so many tokens."""
        self._token_seconds = seconds / num_tokens
