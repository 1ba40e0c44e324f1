"""Which decode kernels a GPU runs: Triton's, if they compile and are right here, or else none."""

import logging
from functools import cache

import torch
from torch import Tensor

from bt_model.config import LlamaConfig
from bt_model.generation.chunk import PAGE
from bt_model.generation.decode_kernels import PROGRAMS, DecodeKernels, LayerPages, TorchKernels
from bt_model.generation.faults import breaks_device
from bt_model.generation.kv_cache import Heads
from bt_model.generation.rope import Rope

_POSITION = PAGE + 5
TOLERANCES = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.05}  # of 1 + the value

_logger = logging.getLogger(__name__)


@cache
def triton_kernels(cfg: LlamaConfig, device: torch.device, dtype: torch.dtype) -> DecodeKernels | None:
    """Triton's kernels after a trial that compiles them; None, with a line in the log, where they do not run.

    They need the package triton, which comes with torch for CUDA, and a C compiler.
    """
    if not torch.cuda.is_available():
        return None
    try:
        from bt_model.generation.triton_kernels import TritonKernels  # noqa: PLC0415 - not on every machine

        kernels = TritonKernels()
        error = largest_error(kernels, cfg, device, dtype)
    except Exception as failure:  # compilers fail in many ways, and there is another way
        if breaks_device(failure):
            raise
        reason = f"{type(failure).__name__}: {failure}".splitlines()[0]
    else:
        if error < TOLERANCES[dtype]:
            _logger.info("decoding with Triton kernels")
            return kernels
        reason = f"they differ by {error:.2g}"
    _logger.warning("decoding without Triton kernels, several times as slow: %s", reason)
    return None


@torch.inference_mode()
def largest_error(
    kernels: DecodeKernels, cfg: LlamaConfig, device: torch.device, dtype: torch.dtype
) -> float:
    """How far kernels are from torch's operators on a decoder's shapes, as a share of 1 + the value."""
    generator = torch.Generator().manual_seed(0)
    plain, heads = TorchKernels(), Heads(1, cfg.num_heads, cfg.num_kv_heads, cfg.head_dim)
    rope = Rope.table(2 * PAGE, cfg, torch.empty(0, device=device, dtype=dtype))

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype)

    errors: list[Tensor] = []
    for count in (1, -(-PROGRAMS // heads.shared)):  # with positions in several splits, and in one
        rows = torch.tensor([[_POSITION, 2 * row + 1, 2 * row + 2] for row in range(count)])
        rows = rows.to(device, torch.int32)
        x, delta, weight = random(count, cfg.width), random(count, cfg.width), random(cfg.width)
        gate_up = random(count, 2 * cfg.mlp_width)
        qkv = random(count, (heads.query + 2 * heads.shared) * heads.dim)
        held = [random(2 * count + 1, heads.shared, PAGE, heads.dim) for _ in range(2)]
        mine, theirs = LayerPages(*(x.clone() for x in held)), LayerPages(*held)
        pairs = [
            (kernels.gate(gate_up), plain.gate(gate_up)),
            (kernels.attend(qkv, rope, rows, mine, heads), plain.attend(qkv, rope, rows, theirs, heads)),
            (mine.keys, theirs.keys),
            (mine.values, theirs.values),
        ]
        for added in (None, delta):
            results = (k.add_norm(x, added, weight, cfg.eps) for k in (kernels, plain))
            pairs += zip(*results, strict=True)
        errors += [_error(mine.float(), theirs.float()) for mine, theirs in pairs]
    return max(error.nan_to_num(torch.inf).item() for error in errors)


def _error(mine: Tensor, theirs: Tensor) -> Tensor:
    return ((mine - theirs).abs() / (1 + theirs.abs())).max()
