"""Where a question is handed on; as a module, an engine process that records its own call stacks."""

import json
import sys
from pathlib import Path

from server.engine.wire import Ask
from tests.stacks import Condition, Recorder, Stack

WEB: dict[str, Condition] = {
    "ChatFlow.answer": lambda _: True,
    "Channel.send": lambda arguments: isinstance(arguments["message"], Ask),
}
ENGINE: dict[str, Condition] = {
    "Worker._begin": lambda arguments: arguments["work"].__qualname__ == "Worker._answer",
    "TemplateBackend.segments": lambda _: True,
    "BatchEngine.submit": lambda _: True,
    "LlamaRunner.forward": lambda _: True,
}


def main(out: str, *arguments: str) -> int:
    """Serve as the engine process does; a line of JSON for every stack goes to `out`."""
    file = Path(out).open("a", buffering=1)  # noqa: SIM115 - as long as the process

    def keep(stack: Stack) -> None:
        file.write(json.dumps(stack) + "\n")

    Recorder(ENGINE, keep).install()
    from server.worker.__main__ import main as serve  # noqa: PLC0415 - its import takes long, and is watched

    return serve(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
