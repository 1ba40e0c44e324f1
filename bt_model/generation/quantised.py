"""The decoder's matrices in 8 or 4 bits, through bitsandbytes.

Only the Linear layers inside the decoder's blocks: embeddings, norms and the head keep their number format,
as do tower, branch, Q-Former and projector. Layers are quantised one by one as they move to the device, so
that the peak memory is that of the result plus one layer.
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bt_model.errors import BtchatError

if TYPE_CHECKING:
    from bt_model.generation.llama import Llama
    from bt_model.types import Quantise

_CHATTER = "bitsandbytes.autograd._functions"
OUTLIER = 6.0  # activations above it are multiplied in 16 bits (LLM.int8)
NF4_BLOCK = 64  # weights that share one scale
CPU_ROWS = 32


def quantise(lm: "Llama", kind: "Quantise", device: torch.device) -> "Llama":
    """Replace the decoder's Linear layers in place and move everything to the device.

    Raises:
        BtchatError: bitsandbytes is not installed.
    """
    library = _library(kind)
    for block in lm.model.layers:
        for name, linear in list(block.named_modules()):
            if isinstance(linear, nn.Linear):
                parent = block.get_submodule(name.rpartition(".")[0])
                setattr(parent, name.rpartition(".")[2], _quantised(library, linear, kind, device))
        block.to(device)
    return lm.to(device)


def _library(kind: str) -> Any:
    try:
        library = import_module("bitsandbytes")
    except ImportError as error:
        raise BtchatError(
            f"quantise is {kind!r}, which needs bitsandbytes; install btchat[gpu], or use none",
            param="quantise",
        ) from error
    logging.getLogger(_CHATTER).setLevel(logging.ERROR)  # it logs a cast warning on every matmul
    return library


def _quantised(library: Any, linear: nn.Linear, kind: str, device: torch.device) -> nn.Module:
    size, has_bias = (linear.in_features, linear.out_features), "bias" in linear.state_dict()
    weight = linear.weight.detach()
    if kind == "int8":
        layer = library.nn.Linear8bitLt(*size, bias=has_bias, has_fp16_weights=False, threshold=OUTLIER)
        layer.weight = library.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        layer = library.nn.Linear4bit(*size, bias=has_bias, compute_dtype=weight.dtype, quant_type="nf4")
        # the packed CPU kernel needs rows % 32 == 0 and columns % 64 == 0
        is_even = linear.out_features % CPU_ROWS == 0 and linear.in_features % NF4_BLOCK == 0
        layer.support_avx512bf16_for_cpu &= is_even
        layer.weight = library.nn.Params4bit(
            weight, requires_grad=False, quant_type="nf4", blocksize=NF4_BLOCK, compress_statistics=False
        )
    layer.bias = linear.bias
    return layer.to(device).eval()
