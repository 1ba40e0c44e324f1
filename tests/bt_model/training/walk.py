"""Where a clip and its batch are handed on; as a module, a decode child that records its own call stacks."""

import json
import sys

from tests.stacks import Condition, Recorder, Stack

TRAINER: dict[str, Condition] = {
    "webvid_entries": lambda _: True,
    "ClipLoader.__init__": lambda _: True,
    "DecodePool.read": lambda _: True,
    "ChildProcess.ask": lambda _: True,
    "PretrainRecipe.batch": lambda _: True,
    "PretrainStep.forward": lambda _: True,
    "BTAdapter.forward": lambda _: True,
    "pretrain_losses": lambda _: True,
}
CHILD: dict[str, Condition] = {
    "read": lambda arguments: "clip" in arguments,
    "Cutout.__call__": lambda _: True,
}


def keep(stack: Stack) -> None:
    """A line of JSON to the standard error: a child may write no file."""
    sys.stderr.write(json.dumps(stack) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    Recorder(CHILD, keep).install()
    from bt_model.decoding.child import main  # its import is watched

    main()
