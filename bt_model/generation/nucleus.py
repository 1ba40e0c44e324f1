"""Drawing an id from a row's shares, of all ids or of those that top-k, top-p and min-p leave.

What they leave is what has a least share; ids tied with it are kept too. Top-p and min-p need no sort: an id
is drawn from all, and kept if the greater ones have less than top-p together; one that is not kept says that
all smaller ones are not either, and the next is drawn from the greater ones. What comes out has the
distribution of a draw from what is kept.

S rows, V vocabulary in blocks of BLOCK ids, the last one filled up with shares of 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bt_model.generation.draw import mixed
from bt_model.generation.request import GenRequest

BLOCK = 32
_CANDIDATES = 64  # the best ids of a row, which are looked at before all of it is


@dataclass(frozen=True, slots=True)
class Bounds:
    """Columns (S, 1) of options; a row is free where its `top_k` is the vocabulary and so on."""

    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    is_free: Tensor
    vocab_size: int
    are_any: bool

    @classmethod
    def of(cls, sampled: Sequence[GenRequest], vocab_size: int, device: torch.device) -> "Bounds":
        def column(values: Sequence[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)[:, None]

        is_free = [not 0 < r.top_k < vocab_size and r.top_p == 1 and r.min_p == 0 for r in sampled]
        return cls(
            column([min(r.top_k or vocab_size, vocab_size) for r in sampled], torch.int64),
            # infinity keeps rounding of the cumulative sum from making a cut
            column([r.top_p if r.top_p < 1 else math.inf for r in sampled]),
            column([r.min_p for r in sampled]),
            column(is_free, torch.bool),
            vocab_size,
            not all(is_free),
        )

    def rows(self, rows: Tensor) -> "Bounds":
        """Those of some rows."""
        columns = (self.top_k[rows], self.top_p[rows], self.min_p[rows], self.is_free[rows])
        return Bounds(*columns, self.vocab_size, self.are_any)


def draw(shares: Tensor, bounds: Bounds, uniform: Tensor, scratch: Tensor) -> Tensor:
    """Ids (S,) at which the shares (S, blocks x BLOCK) that are kept pass `uniform` (S, 1) of their sum.

    A short row, or any but on a CPU, is sorted whole. `scratch` is memory of the shares' shape.
    """
    if not bounds.are_any:
        return drawn(shares, uniform)
    if shares.device.type != "cpu" or shares.shape[1] <= 2 * _CANDIDATES * BLOCK:
        return _draw_whole(shares, bounds, uniform)
    has_top_k = (bounds.top_k < bounds.vocab_size)[:, 0]
    if not has_top_k.any():
        return _draw_kept(shares, bounds, uniform, scratch)
    if has_top_k.all():
        return _draw_best(shares, bounds, uniform)
    chosen = torch.empty(len(shares), dtype=torch.int64)
    rows = has_top_k.nonzero()[:, 0]
    chosen[rows] = _draw_best(shares[rows], bounds.rows(rows), uniform[rows])
    rows = (~has_top_k).nonzero()[:, 0]
    chosen[rows] = _draw_kept(shares[rows], bounds.rows(rows), uniform[rows], scratch)
    return chosen


def drawn(shares: Tensor, uniform: Tensor) -> Tensor:
    """Ids (S,) at which all shares (S, blocks x BLOCK) pass `uniform` (S, 1), float64, of their sum."""
    blocks = shares.unflatten(1, (-1, BLOCK))
    upto = blocks.sum(-1).double().cumsum(-1)
    target = uniform * upto[:, -1:]
    number = _first_above(upto, target)
    inside = upto.gather(1, number)
    before = torch.where(number > 0, upto.gather(1, (number - 1).clamp_min(0)), 0.0)
    upto = blocks.gather(1, number[..., None].expand(-1, 1, BLOCK))[:, 0].double().cumsum(-1)
    # a block's two sums may differ in their last digits, and what is left must lie within the second
    part = ((target - before) / (inside - before)).clamp(0, 1 - 1e-15)
    return (number * BLOCK + _first_above(upto, part * upto[:, -1:]))[:, 0]


def _draw_kept(shares: Tensor, bounds: Bounds, uniform: Tensor, scratch: Tensor) -> Tensor:
    """By top-p and min-p."""
    chosen = drawn(shares, uniform)
    own = shares.gather(1, chosen[:, None])
    greater = torch.gt(shares, own, out=scratch[: len(shares)]).mul_(shares)
    mass = greater.sum(-1, keepdim=True)
    # of a row that is not finite every id is kept, and of any row the best
    is_kept = ~(mass >= bounds.top_p) | (mass == 0)
    if bounds.min_p.any():
        is_kept &= ~(own < bounds.min_p * shares.amax(-1, keepdim=True))
    rows = (~is_kept).nonzero()[:, 0]
    if len(rows):
        again = [mixed(number) for number in uniform[rows, 0].tolist()]
        numbers = torch.tensor(again, dtype=torch.float64)[:, None]
        chosen[rows] = _draw_kept(greater[rows], bounds.rows(rows), numbers, scratch)
    return chosen


def _draw_best(shares: Tensor, bounds: Bounds, uniform: Tensor) -> Tensor:
    """By top-k, and others with it: where the cut lies among the best ids only these are sorted."""
    values, ids = _best(shares)
    least = _cut(values, bounds)
    is_settled = ((bounds.top_k <= _CANDIDATES) & (values[:, -1:] < least))[:, 0]
    chosen = _draw_among(values * (values >= least), ids, uniform)
    rows = (~is_settled).nonzero()[:, 0]
    if len(rows):
        chosen[rows] = _draw_whole(shares[rows], bounds.rows(rows), uniform[rows])
    return chosen


def _draw_whole(shares: Tensor, bounds: Bounds, uniform: Tensor) -> Tensor:
    on_cpu = shares.device.type == "cpu"
    # numpy sorts many times as fast as torch does on a CPU
    ordered = torch.from_numpy(np.sort(shares.numpy(), axis=-1)) if on_cpu else shares.sort().values
    least = _cut_whole(ordered, bounds).masked_fill_(bounds.is_free, 0)
    return drawn(shares.masked_fill(shares < least, 0), uniform)


def _draw_among(weights: Tensor, ids: Tensor, uniform: Tensor) -> Tensor:
    """Ids (S,) among weighted ones (S, n), in the order of the ids."""
    ids, order = ids.sort()
    upto = weights.gather(1, order).double().cumsum(-1)
    return ids.gather(1, _first_above(upto, uniform * upto[:, -1:]))[:, 0]


def _best(shares: Tensor) -> tuple[Tensor, Tensor]:
    """The greatest shares of each row in descending order, and their ids; both (S, _CANDIDATES)."""
    blocks = shares.unflatten(1, (-1, BLOCK))
    # the best ids lie in the blocks with the greatest maxima, each in one of its own at most
    numbers = blocks.amax(-1).topk(_CANDIDATES, sorted=False).indices
    values, places = blocks.gather(1, numbers[..., None].expand(-1, -1, BLOCK)).flatten(1).topk(_CANDIDATES)
    return values, numbers.gather(1, places // BLOCK) * BLOCK + places % BLOCK


def _first_above(upto: Tensor, target: Tensor) -> Tensor:
    """(S, n) ascending and (S, 1): the first position whose value is above, (S, 1)."""
    return torch.searchsorted(upto, target, right=True).clamp_max(upto.shape[1] - 1)


def _cut_whole(ordered: Tensor, bounds: Bounds) -> Tensor:
    """The least that is kept (S, 1) of all shares (S, blocks x BLOCK), here the least first."""
    width = ordered.shape[1]
    blocks = ordered.unflatten(1, (-1, BLOCK))
    upto = blocks.sum(-1).double().flip(-1).cumsum(-1)  # from the greatest down
    mass = torch.where(bounds.top_k < bounds.vocab_size, _mass_of(blocks, upto, bounds.top_k), 1.0)
    target = bounds.top_p * mass
    number = torch.searchsorted(upto, target).clamp_max(upto.shape[1] - 1)
    within, before = _within(blocks, upto, number)
    position = torch.searchsorted(within, target - before).clamp_max(BLOCK - 1)
    by_mass = number * BLOCK + position + 1
    by_part = width - torch.searchsorted(ordered, bounds.min_p * ordered[:, -1:])
    num_kept = by_mass.minimum(bounds.top_k).minimum(by_part).clamp_min(1)
    return ordered.gather(1, width - num_kept)


def _mass_of(blocks: Tensor, upto: Tensor, count: Tensor) -> Tensor:
    """The sum of the `count` (S, 1) greatest."""
    within, before = _within(blocks, upto, (count - 1) // BLOCK)
    return before + within.gather(1, (count - 1) % BLOCK)


def _within(blocks: Tensor, upto: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
    """Of block `number` (S, 1) from the top: its sums from its greatest down, and the sum of those above."""
    at = (blocks.shape[1] - 1 - number)[..., None].expand(-1, 1, BLOCK)
    sums = blocks.gather(1, at)[:, 0].flip(-1).double().cumsum(-1)
    return sums, torch.where(number > 0, upto.gather(1, (number - 1).clamp_min(0)), 0.0)


def _cut(ordered: Tensor, bounds: Bounds) -> Tensor:
    """The least that is kept (S, 1) of the greatest shares (S, n), here the greatest first, if it is one."""
    upto = ordered.double().cumsum(-1)
    last = bounds.top_k.clamp_max(ordered.shape[1]) - 1
    mass = torch.where(bounds.top_k < bounds.vocab_size, upto.gather(1, last), 1.0)
    in_top_k = torch.arange(ordered.shape[1]) < bounds.top_k
    is_kept = in_top_k & (upto - ordered < bounds.top_p * mass) & (ordered >= bounds.min_p * ordered[:, :1])
    # the best id is always kept: a tiny top_p rounds to 0, and comparisons with NaN are false
    return ordered.gather(1, is_kept.sum(-1, keepdim=True).clamp_min(1) - 1)
