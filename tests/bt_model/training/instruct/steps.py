"""A tiny step in memory, and batches for it. B dialogues, T frames."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from bt_model.config import TemporalConfig
from bt_model.prompt.segments import SpecialIds
from bt_model.training.data.tokens import IGNORED, TokenRow, collate
from bt_model.training.instruct.learning import unfreeze
from bt_model.training.instruct.settings import LearnSettings
from bt_model.training.instruct.step import InstructBatch, InstructStep
from bt_model.vision.encoder import ChatFeatures
from bt_model.vision.pool import patches_cls
from tests import tiny

IDS = SpecialIds(bos=1, eos=2, video_start=3, video_end=4)
VOCABULARY = 40
ALL = LearnSettings(tokens=True, lora_rank=2, lora_on=("q_proj", "v_proj", "down_proj"))


def fresh_step(
    config: TemporalConfig = tiny.FROZEN["bt_adapter"],
    stored: tuple[int, ...] = (),
    pool: Callable[[ChatFeatures], Tensor] = patches_cls,
) -> InstructStep:
    """Every part as if trained."""
    chat = tiny.chat_model(tiny.plan(VOCABULARY, 280).llama, IDS.eos, seed=20)
    return InstructStep(tiny.trained(config), pool, chat.projector, chat.lm, stored=stored)


def opened(step: InstructStep, learn: LearnSettings = ALL) -> dict[str, nn.Module]:
    torch.manual_seed(3)
    return unfreeze(step, learn, IDS)


def row(question: int, answer: Sequence[int], num_video: int = tiny.P + 1) -> TokenRow:
    """<bos> question <start> video <end> answer <eos>."""
    assert IDS.video_start is not None
    assert IDS.video_end is not None
    before = [IDS.filler, *range(10, 10 + question), IDS.video_start]
    ids = [*before, *[IDS.filler] * num_video, IDS.video_end, *answer, IDS.eos]
    labels = [*[IGNORED] * (len(ids) - len(answer) - 1), *answer, IDS.eos]
    return TokenRow(ids, labels, len(before))


def batch(frames: Sequence[int] = (4, 4, 4), num_video: int | Sequence[int] = tiny.P + 1) -> InstructBatch:
    """Dialogues of different lengths about videos of so many frames, which become so many tokens."""
    videos = tuple(tiny.clips(1, count, seed=n)[0] for n, count in enumerate(frames))
    counts = [num_video] * len(frames) if isinstance(num_video, int) else num_video
    rows = [row(2 + 3 * n, range(20, 22 + 2 * n), count) for n, count in enumerate(counts)]
    return InstructBatch(videos, collate(rows, counts, pad=IDS.eos))


def answer_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over supervised tokens, one by one: logits (B, n, V), labels (B, n)."""
    chances = logits[:, :-1].log_softmax(dim=-1)
    found = [
        -chances[b, n, label]
        for b, row in enumerate(labels[:, 1:].tolist())
        for n, label in enumerate(row)
        if label != IGNORED
    ]
    return torch.stack(found).mean()


def equal_shares(given: InstructBatch) -> Tensor:
    """All answer tokens count alike."""
    counts = given.tokens.num_answer_tokens
    return torch.full((len(counts),), 1 / float(counts.sum()))


def loss_of(step: InstructStep, given: InstructBatch) -> Tensor:
    return step(given, equal_shares(given))


def gradients(step: InstructStep, given: InstructBatch) -> dict[str, Tensor]:
    """Of everything that has one."""
    step.zero_grad()
    loss_of(step, given).backward()
    return {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}
