"""How many prompt tokens a step may compute, so that running streams are not held up by newcomers."""

_WHOLE = 512  # tokens of a step beside which no stream runs; more do not make it more efficient
_LEAST = 64  # fewer make matrix products inefficient, and a prompt endless
_MAX_STRETCH = 3.0  # a step with prompts may take so many times one without
_MEMORY = 0.8  # of earlier measurements in each new mean


class StepBudget:
    """Learns what a step of rows takes and what a prompt's token adds, and divides."""

    def __init__(self) -> None:
        self._rows_seconds: float | None = None
        self._token_seconds: float | None = None

    def prompt_tokens(self, num_rows: int) -> int:
        """For the next step, beside so many rows."""
        if not num_rows or self._rows_seconds is None or not self._token_seconds:
            return _WHOLE
        spare = (_MAX_STRETCH - 1) * self._rows_seconds
        return min(max(int(spare / self._token_seconds), _LEAST), _WHOLE)

    def measured(self, seconds: float, num_prompt_tokens: int, num_rows: int) -> None:
        """What a step took."""
        if not num_prompt_tokens:
            self._rows_seconds = _mean(self._rows_seconds, seconds)
            return
        rows_seconds = (self._rows_seconds or 0.0) if num_rows else 0.0
        self._token_seconds = _mean(self._token_seconds, max(seconds - rows_seconds, 0.0) / num_prompt_tokens)


def _mean(old: float | None, new: float) -> float:
    return new if old is None else _MEMORY * old + (1 - _MEMORY) * new
