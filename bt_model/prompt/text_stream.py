"""Incremental detokenisation: only whole characters are released, and no part of a stop string."""

from collections.abc import Callable, Sequence

WINDOW = 64  # ids decoded together at most; keeps the cost per token constant
# Ids that remain as context when the window moves on; four cuts, since a character may span four byte tokens.
CONTEXT = range(8, 12)
UNFINISHED = "\N{REPLACEMENT CHARACTER}"


class TextStream:
    """One answer's text. `push` returns the text that is final; `stopped` is set by a stop string.

    An answer begins without spaces, but for one that goes on behind the text of the ids `before`.
    """

    def __init__(
        self, decode: Callable[[Sequence[int]], str], stops: Sequence[str], before: Sequence[int] = ()
    ) -> None:
        self._decode = decode
        self._stops = tuple(stops)
        self._ids = list(before)
        self._decoded = (
            decode(self._ids) if before else ""
        )  # text of self._ids that was moved to _held or released
        self._held = ""  # decoded, not released: may be the beginning of a stop string
        self._begun = bool(before)
        self.stopped = False

    def push(self, ids: Sequence[int]) -> str:
        """Add ids; returns the text that can no longer change."""
        if self.stopped:
            return ""
        self._ids += ids
        text = self._decode(self._ids)
        if text.endswith(UNFINISHED):
            return ""
        return self._take(text)

    def finish(self) -> str:
        """The text that was held back, after the last id."""
        if self.stopped:
            return ""
        text = self._take(self._decode(self._ids)) + self._held
        self._held = ""
        return text

    def _take(self, text: str) -> str:
        self._held += text[len(self._decoded) :]
        self._decoded = text
        if len(self._ids) > WINDOW:
            self._move_on(text)
        if not self._begun:
            self._held = self._held.lstrip()
            self._begun = bool(self._held)
        return self._release()

    def _move_on(self, text: str) -> None:
        """Keep only the last ids, from where a character begins: a cut inside one garbles what follows."""
        for count in CONTEXT:
            decoded = self._decode(self._ids[-count:])
            if text.endswith(decoded):
                self._ids, self._decoded = self._ids[-count:], decoded
                return

    def _release(self) -> str:
        found = [(at + len(stop), at) for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            _, begin = min(found)  # the stop string that ends first, however the text was split
            self.stopped = True
            shown, self._held = self._held[:begin], ""
            return shown
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if stop.startswith(text[-n:])), 0)
