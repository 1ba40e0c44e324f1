"""How a command line ends: its exit code, and one line on stderr where it fails."""

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from bt_model.errors import BtchatError, explain

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


def run(app: App, arguments: Sequence[str] | None) -> int:
    """Run a command; its exit code: 2 where the command line is wrong, 1 where it fails."""
    _unset_empty_variables()
    tokens = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(app, tokens)
    except CycloptsError as error:
        return _complain(_usage(app, error), USAGE)
    except BtchatError as error:
        return _complain(error.message, FAILURE)
    except OSError as error:  # such as a missing video, or a folder that cannot be written
        return _fail(error)
    except ModuleNotFoundError as error:  # the laboratory of a wheel, or an extra
        return _complain(f"{error.name} is not installed, and this command needs it", FAILURE)
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(app: App, tokens: list[str]) -> int:
    _, path, rest = app.parse_commands(tokens)
    if not rest and path[-1].default_command is None:  # a group without one of its commands
        app.help_print(tokens, console=app.error_console)
        return USAGE
    return app(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0


def _unset_empty_variables() -> None:
    """`BTCHAT_MODEL=` means that there is none, as in `.env.example`, also to commands without settings."""
    for name in [name for name, value in os.environ.items() if name.startswith("BTCHAT_") and not value]:
        del os.environ[name]


def version() -> str:
    """That of the installed distribution."""
    from importlib.metadata import version  # reads mails' headers, which takes its time

    return version("btchat")


def _fail(error: OSError) -> int:
    if not isinstance(error, BrokenPipeError):
        return _complain(explain(error), FAILURE)
    # `btchat … | head`: what is still buffered must not be flushed into the closed pipe at the end
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILURE


def _usage(app: App, error: CycloptsError) -> str:
    if error.__cause__ is not None and error.argument is not None:
        # pydantic takes a tenth of a second, and most commands have no use for it
        from pydantic import ValidationError

        from bt_model.settings.refusal import invalid_value

        if isinstance(error.__cause__, ValidationError):
            return invalid_value(error.__cause__, error.argument.hint).message
    error.verbose = False
    return f"{error} ({' '.join((*app.name, *(error.command_chain or ())))} --help)"


def _complain(text: str, code: int) -> int:
    sys.stderr.write(f"btchat: {' '.join(text.split())}\n")
    return code
