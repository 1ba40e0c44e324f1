"""What an answer waits for, as a line of a terminal."""

import sys


class StageLine:
    """Shown on stderr, if that is a terminal, until the text comes."""

    def __init__(self) -> None:
        self._is_shown = False

    def show(self, stage: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\033[K({stage})")
            sys.stderr.flush()
            self._is_shown = True

    def close(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
            self._is_shown = False
