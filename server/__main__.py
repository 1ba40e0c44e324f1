"""`python -m server`: the server without the `btchat` command."""

import sys
from collections.abc import Sequence

from cyclopts import App

from server.command.run import run, version
from server.command.serve import serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal comes; returns 1, with one line on stderr, if the server cannot start."""
    app = App(
        name="python -m server", help_format="plaintext", version=version, suppress_keyboard_interrupt=False
    )
    app.default(serve)
    return run(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
