"""The engine process, with a fault to come: the next step or encode after `--fault-file` says which."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bt_model.generation.chunk import Chunk
from bt_model.generation.llama_runner import LlamaRunner
from server.worker import __main__ as worker
from server.worker.thread import WorkThread
from tests.soak.secrets import SECRET

LONG = 512  # sequences longer than this never fit, once that was asked for
MANY = 4  # more rows than this lack memory, once that was asked for


def inject(path: Path) -> None:
    """Break steps of every model, and the thread that encodes."""
    forward, call = LlamaRunner.forward, WorkThread._call  # pyright: ignore[reportPrivateUsage] - nothing else breaks

    def broken_forward(
        runner: LlamaRunner, embeds: torch.Tensor, chunks: Sequence[Chunk]
    ) -> Iterator[torch.Tensor | None]:
        if path.exists():
            match path.read_text():
                case "accelerator":
                    raise torch.AcceleratorError(f"CUDA error: an illegal memory access {SECRET}")
                case "hang":
                    time.sleep(1000)
                case "memory" if len(chunks) > MANY:
                    raise torch.OutOfMemoryError(f"CUDA out of memory {SECRET}")
                case "long" if any(chunk.end > LONG for chunk in chunks):
                    raise torch.OutOfMemoryError(f"CUDA out of memory {SECRET}")
                case _:
                    pass
        yield from forward(runner, embeds, chunks)

    def broken_call(thread: WorkThread, *work: Any) -> None:
        if thread.name == "vision" and path.exists() and path.read_text() == "vision":
            sys.exit(1)  # of this thread
        call(thread, *work)

    setattr(LlamaRunner, "forward", broken_forward)  # noqa: B010 - by no type checker's leave
    setattr(WorkThread, "_call", broken_call)  # noqa: B010


if __name__ == "__main__":
    inject(Path(sys.argv.pop(1)))
    sys.exit(worker.main())
