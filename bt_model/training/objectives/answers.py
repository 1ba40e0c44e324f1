"""A chat model on video tokens: its logits, the loss of its answers, and which of them are right.

B dialogues, K video tokens, D width, H LLM width, n positions, V vocabulary.
"""

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy

from bt_model.training.data.tokens import IGNORED

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bt_model.generation.llama import Llama
    from bt_model.training.data.tokens import TokenBatch


def answer_logits(lm: "Llama", projector: "nn.Module", video: "Tensor", batch: "TokenBatch") -> "Tensor":
    """Video tokens (B, K, D) spliced into the embedded dialogue -> logits (B, n, V)."""
    return lm(spliced(lm.embed(batch.ids), projector(video), batch), batch.is_real)


def spliced(embeds: "Tensor", soft: "Tensor", batch: "TokenBatch") -> "Tensor":
    """Embedded ids (B, n, H), the video's placeholders replaced by projected tokens (B, K, H); float32."""
    return embeds.float().masked_scatter(batch.is_video[..., None], soft.float())


def summed_loss(lm: "Llama", embeds: "Tensor", batch: "TokenBatch", shares: "Tensor") -> "Tensor":
    """The sum of all answer tokens' losses, each weighted by its dialogue's share (B,); embeds (B, n, H)."""
    # padding is on the right, so causal attention needs no mask for it
    states, labels = lm.states(embeds)[:, :-1], batch.labels[:, 1:]
    is_answer = labels != IGNORED
    logits = lm.logits(states[is_answer])  # of these positions alone, to save memory
    losses = cross_entropy(logits.float(), labels[is_answer], reduction="none")
    return (losses * shares[is_answer.nonzero()[:, 0]]).sum()


@torch.inference_mode()
def exact_answers(lm: "Llama", projector: "nn.Module", video: "Tensor", batch: "TokenBatch") -> "Tensor":
    """Whether greedy decoding gives the one right answer of each row, (B,) bool.

    All answer tokens being most likely under teacher forcing is the same as greedy decoding giving them.
    """
    predicted = answer_logits(lm, projector, video, batch)[:, :-1].argmax(dim=-1)
    labels = batch.labels[:, 1:]
    return ((predicted == labels) | (labels < 0)).all(dim=1)


@torch.inference_mode()
def answer_scores(lm: "Llama", projector: "nn.Module", video: "Tensor", batch: "TokenBatch") -> "Tensor":
    """The log probability of each row's answer, (B,) float32."""
    logits = answer_logits(lm, projector, video, batch)[:, :-1].float()
    labels = batch.labels[:, 1:]
    each = logits.log_softmax(dim=-1).gather(2, labels.clamp(min=0)[..., None])[..., 0]
    return each.masked_fill(labels < 0, 0.0).sum(dim=1)
