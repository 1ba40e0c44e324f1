"""A stable digest of weights: names, shapes, dtypes and bytes. It is part of the key of cached features."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK = 1 << 22  # elements that are copied from the device at a time


def fingerprint(tensors: "Mapping[str, Tensor]") -> str:
    """SHA-256 in hex; the order and the device of the tensors do not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach()
        head = f"{len(name)}:{name}|{tensor.dtype}|{tuple(tensor.shape)}|"
        digest.update(head.encode())
        for chunk in tensor.reshape(-1).split(_CHUNK):
            digest.update(chunk.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
