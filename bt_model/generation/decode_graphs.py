"""Decode steps whose kernels a GPU is given at once: recorded once for each number of rows, then replayed.

B rows, W width, M pages of a row, V vocabulary.
"""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bt_model.generation.faults import breaks_device

Compute = Callable[[], Tensor]
Record = Callable[[Compute], Compute]

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)  # rows that are computed; a step takes the next one

_logger = logging.getLogger(__name__)


class DecodeGraphs:
    """Steps of rows alone, over memory that stays where it is.

    Args:
        forward: (B, W) and (B, 1 + M) int32, as of `DecodeKernels.attend` -> logits (B, V).
        like: (W,), of the embeddings' device and number format.
        width: 1 + M.
        record: makes one launch of a computation's kernels; without it as `recorder` does.
    """

    def __init__(
        self,
        forward: Callable[[Tensor, Tensor], Tensor],
        like: Tensor,
        width: int,
        record: Record | None = None,
    ) -> None:
        self._forward, self._record = forward, record or recorder()
        self._embeds = like.new_zeros(BUCKETS[-1], len(like))
        self._rows = torch.zeros(BUCKETS[-1], width, dtype=torch.int32, device=like.device)
        self._steps: dict[int, Compute] = {}

    def step(self, embeds: Tensor, rows: Tensor) -> Tensor:
        """(B, W) on the device and (B, 1 + M) on the host -> logits (B, V), valid until the next step.

        At most `BUCKETS[-1]` rows. Those that pad a step write to page 0.
        """
        count = len(rows)
        bucket = next(size for size in BUCKETS if size >= count)
        self._embeds[:count] = embeds
        self._rows[:bucket].copy_(torch.nn.functional.pad(rows, (0, 0, 0, bucket - count)), non_blocking=True)
        if bucket > count:
            self._embeds[count:bucket] = 0
        if bucket not in self._steps:
            self._steps[bucket] = self._recorded(bucket)
        return self._steps[bucket]()[:count]

    def _recorded(self, bucket: int) -> Compute:
        compute = partial(self._forward, self._embeds[:bucket], self._rows[:bucket])
        try:
            return self._record(compute)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # such as layers of bitsandbytes that read values on the host
            if breaks_device(error) and "captur" not in str(error):
                raise
            _logger.warning("decode steps of %d rows are not recorded: %s", bucket, error)
            return compute


def recorder() -> Record:
    """Makes CUDA graphs, which share their memory; where there is no GPU computations stay as they are."""
    if not torch.cuda.is_available():
        return lambda compute: compute
    pool = torch.cuda.graph_pool_handle()

    def record(compute: Compute) -> Compute:
        own, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(own)
        with torch.cuda.stream(side):
            compute()  # compiles, and reserves what libraries need
        own.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            # other threads, such as that of the vision tower, may go on meanwhile
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                result = compute()
        finally:
            torch.cuda.set_stream(own)  # a capture that fails leaves its own in place

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    return record
