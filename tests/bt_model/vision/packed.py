"""The published computation of the branch by loops, over packed tokens."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from bt_model.vision.bt_adapter import BTAdapter, SpatialLayer, TemporalLayer
from tests.tiny import D


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def packed_branch(
    adapter: BTAdapter, states: Sequence[Tensor], position: Tensor, counter: int, kept: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The published computation for one clip, states (T, 1 + P, D), over tokens packed patch-major.

    Token n * T + t is patch n of frame t; `counter` tokens in a row are one track in time, and tokens
    `counter` apart share a spatial group.
    """
    num_frames = len(states[0])
    z, cls = torch.empty(0), torch.empty(0)
    for k, x in enumerate(states):
        own = torch.stack([x[t, 1 + n] for n, t in product(kept, range(num_frames))])
        if k == 0:
            added = [
                position[1 + n] + adapter.time_embed.weight[t] for n, t in product(kept, range(num_frames))
            ]
            z, cls = own + torch.stack(added), 0.5 * (x[:, 0].mean(0) + adapter.cls_token + position[0])
        elif not adapter.config.interaction:
            pass
        elif adapter.config.combination == "concat":
            weight, bias = adapter.middle_concat.weight, adapter.middle_concat.bias
            z = torch.stack([weight @ torch.cat([a, b]) + bias for a, b in zip(own, z, strict=True)])
            cls = weight @ torch.cat([x[:, 0].mean(0), cls]) + bias
        elif adapter.config.middle_scale is None or adapter.config.combination == "add":
            z, cls = z + own, cls + x[:, 0].mean(0)
        else:
            gate = torch.sigmoid(adapter.config.middle_scale * adapter.balance2)
            z, cls = (1 - gate) * z + gate * own, (1 - gate) * cls + gate * x[:, 0].mean(0)
        z, cls = packed_layer(z, cls, adapter.temporal[k], adapter.spatial[k], counter)
    return z.view(len(kept), num_frames, D).transpose(0, 1), cls


def packed_layer(
    z: Tensor, cls: Tensor, temporal: torch.nn.Module, spatial: torch.nn.Module, counter: int
) -> tuple[Tensor, Tensor]:
    assert isinstance(temporal, TemporalLayer)
    assert isinstance(spatial, SpatialLayer)
    runs = [z[i : i + counter] for i in range(0, len(z), counter)]
    z = z + torch.cat(
        [temporal.temporal_fc(temporal.self_attn(temporal.layer_norm1(r)[None]))[0] for r in runs]
    )
    seen, answers = z.clone(), list[Tensor]()
    for f in range(counter):
        group = torch.cat([cls[None], z[f::counter]])
        result = spatial.self_attn(spatial.layer_norm1(group)[None])[0]
        seen[f::counter] += result[1:]
        answers.append(result[0])
    cls = cls + torch.stack(answers).mean(0)
    return seen + spatial.mlp(spatial.layer_norm2(seen)), cls + spatial.mlp(spatial.layer_norm2(cls))
