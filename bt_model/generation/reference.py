"""Reference implementation of generation: one request, no cache, no batch.

The contract tests compare every engine with `continuation`.
"""

import math
from typing import TYPE_CHECKING

import torch

from bt_model.generation.chunk import Chunk, pages_of
from bt_model.generation.draw import uniform
from bt_model.generation.language_model import compute
from bt_model.generation.request import GenRequest, Tokens

if TYPE_CHECKING:
    from bt_model.generation.language_model import LanguageModel


def continuation(lm: "LanguageModel", request: GenRequest) -> tuple[int, ...]:
    """The new tokens of a request without its stop token; the whole sequence is recomputed for each."""
    seed = request.seed or 0
    embeds = torch.cat(
        [lm.embed(torch.tensor(s.ids)) if isinstance(s, Tokens) else s.embeds for s in request.segments]
    )
    ids: list[int] = []
    while len(ids) < request.max_new_tokens:
        new = lm.embed(torch.tensor(ids, dtype=torch.int64))
        sequence = torch.cat((embeds, new))
        pages = tuple(range(1, 1 + pages_of(len(sequence))))
        logits = compute(lm.start(len(pages)), sequence, [Chunk(pages, 0, len(sequence), is_prompt=True)])[0]
        chosen = _choose(logits.tolist(), request, ids, uniform(seed, len(ids)))
        if chosen in request.stop_token_ids:
            break
        ids.append(chosen)
    return tuple(ids)


def _choose(logits: list[float], request: GenRequest, said: list[int], number: float) -> int:
    scores = [_penalised(x, said.count(i), request) for i, x in enumerate(logits)]
    if request.temperature == 0:
        return scores.index(max(scores))
    top = max(scores)
    weights = [math.exp((x - top) / request.temperature) for x in scores]
    kept = _kept(weights, request)
    left = number * sum(weights[i] for i in kept)
    for i in kept:
        left -= weights[i]
        if left < 0:
            return i
    return kept[-1]


def _penalised(logit: float, count: int, request: GenRequest) -> float:
    """The logit of a token that was said so many times."""
    if not count:
        return logit
    penalty = request.repetition_penalty
    divided = logit / penalty if logit > 0 else logit * penalty
    return divided - request.presence_penalty - count * request.frequency_penalty


def _kept(weights: list[float], request: GenRequest) -> list[int]:
    """Ids that remain after top-k, top-p and min-p, in ascending order."""
    best = sorted(range(len(weights)), key=lambda i: -weights[i])[: request.top_k or None]
    total, mass, count = sum(weights[i] for i in best), 0.0, 0
    least = request.min_p * weights[best[0]]
    while count < len(best) and mass < request.top_p * total and weights[best[count]] >= least:
        mass += weights[best[count]]
        count += 1
    return sorted(best[:count])
