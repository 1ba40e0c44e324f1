"""How a command may be typed again in the current folder, for lines that are to be pasted."""

import shlex
import shutil
import sys
from pathlib import Path


def invocation() -> str:
    """`btchat` where the shell finds it; otherwise its path, or `python -m btchat`, as it was started."""
    started = Path(sys.argv[0])
    if started.stem != "btchat":
        return f"{shown_path(Path(sys.executable))} -m btchat"
    found = shutil.which("btchat")
    if found and Path(found).resolve() == started.resolve():
        return "btchat"
    return shown_path(started)


def shown_path(path: Path) -> str:
    """Relative to the current folder where it lies below, and quoted where a shell needs it."""
    here = Path.cwd()
    absolute = path.absolute()  # not resolved: a virtual environment's python is a link to another
    return shlex.quote(str(absolute.relative_to(here) if absolute.is_relative_to(here) else path))
