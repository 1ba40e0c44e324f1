"""One engine in a process of its own: a batch's number on each line of input, its answers on one of output.

python -m benchmarks.serving.child ENGINE FOLDER ROWS, started by runs.py.
"""

import json
import os
import sys
from pathlib import Path

import torch

from benchmarks.serving.peers import start
from benchmarks.serving.prompts import read_load


def main() -> None:
    """Start the engine, say so, answer until the input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    engine, folder, rows = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(1)
    load = read_load(folder)
    peer = start(engine, folder / "model", rows, load.new_tokens)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        answers = peer.answer(load.batches[int(line)].prompts)
        print(json.dumps(answers), file=replies, flush=True)
    replies.flush()
    os._exit(0)  # engines' threads need no farewell


if __name__ == "__main__":
    main()
