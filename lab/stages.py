"""The stages of the embedded model: towers, language, captioner, branch, instruction, baseline."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.text.clip_tokenizer import ClipTokenizer
from bt_model.training.config import CAPTION_REQUEST, EmbeddedPlan
from bt_model.training.data.masking import first_unmasked, generator_for, tube_mask
from bt_model.training.data.tokens import TokenBatch, collate
from bt_model.training.objectives.alignment import AlignmentHead, pretrain_loss
from bt_model.training.objectives.answers import instruct_loss
from bt_model.training.objectives.captioner import Captioner, Captions
from bt_model.training.objectives.losses import contrastive
from bt_model.training.trainer.cost import Trained
from bt_model.training.trainer.loop import train
from bt_model.training.trainer.optimiser import Schedule
from bt_model.vision.encoder import VideoEncoder
from bt_model.vision.pool import patches_cls
from lab.clips import Corpus
from lab.dialogues import DialogueTokens, shuffled
from lab.pictures import captions_of, group_numbers, pictures, varied_scenes, with_partners
from lab.shapes.questions import Question, questions
from lab.shapes.scene import Scene

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.text.clip_text import ClipTextTower

MOST_QUESTIONS = 3
INITIAL_SCALE = 1 / 0.07  # CLIP's own start of the learnt temperature
MAX_SCALE = 100.0
TUNED_RATE = 0.5  # of the projector's learning rate, for what was trained before


class TextSide(nn.Module):
    """Text tower with its tokenizer and the learnt temperature of CLIP's own training."""

    def __init__(self, tower: "ClipTextTower", tokenizer: ClipTokenizer) -> None:
        super().__init__()
        self.tower = tower
        self.tokenizer = tokenizer
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_SCALE).log())

    def forward(self, texts: Sequence[str]) -> "Tensor":
        return self.tower(self.tokenizer(texts, self.tower.config.context_length))


def train_towers(plan: EmbeddedPlan, encoder: VideoEncoder, text: TextSide, work: Path) -> Trained:
    """CLIP on single pictures and captions."""
    tower = encoder.tower
    last = plan.vision.num_layers

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"towers {plan.seed} {step}")
        drawn = with_partners(varied_scenes("train", plan.clip_batch // 2, rng), rng)
        texts = captions_of(drawn, rng)
        (x,) = tower(pictures(drawn, plan.vision.image_size), range(last, last + 1))
        scale = text.log_scale.exp().clamp(max=MAX_SCALE)
        return contrastive(tower.project(x[:, 0]), text(texts), group_numbers(texts), scale=scale)

    parameters = [*tower.parameters(), *text.parameters()]
    return train("towers", {"vision": tower, "text": text}, parameters, plan.clip, loss_at, work)


@dataclass(frozen=True, slots=True)
class CaptionSide:
    """What captions are compared through: CLIP's text tower, and a frozen captioner with its spelling."""

    text: TextSide
    captioner: "ChatParts"
    tokens: DialogueTokens

    def captions(self, texts: Sequence[str], *, are_said: bool = True) -> Captions:
        """The captions of a batch as the losses take them; unless they `are_said`, not in tokens."""
        with torch.no_grad():
            embeds = self.text(texts)
        if not are_said:
            return Captions(embeds, group_numbers(texts))
        said = caption_batch(texts, self.tokens)
        captioner = Captioner(self.captioner.lm, self.captioner.projector, said)
        return Captions(embeds, group_numbers(texts), captioner)


def train_branch(
    plan: EmbeddedPlan,
    encoder: VideoEncoder,
    head: AlignmentHead,
    side: CaptionSide,
    corpus: Corpus,
    work: Path,
) -> Trained:
    """Masked video-text pre-training of the BT-Adapter beside the frozen towers; the end sees every patch."""
    assert encoder.adapter is not None
    unmasked_from = first_unmasked(plan.unmasked, plan.pretrain.num_steps)

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"branch {plan.seed} {step}")
        drawn, states = corpus.draw(plan.pretrain_batch, rng, encoder.reads)
        visible = None
        if step < unmasked_from:
            generator = generator_for(plan.seed, step)
            visible = tube_mask(len(drawn), plan.vision.num_patches, plan.mask_rate, generator)
        captions = side.captions(captions_of(drawn, rng))
        return pretrain_loss(encoder, head, states, captions, visible, plan.losses)

    modules = {"adapter": encoder.adapter, "head": head}
    parameters = [*encoder.adapter.parameters(), *head.parameters()]
    return train("branch", modules, parameters, plan.pretrain, loss_at, work)


def train_language(
    plan: EmbeddedPlan, encoder: VideoEncoder, chat: "ChatParts", tokens: DialogueTokens, work: Path
) -> Trained:
    """The image chat model: decoder and projector on questions about single pictures, towers frozen."""

    def asked(drawn: Sequence[Scene], rng: Random) -> TokenBatch:
        return question_batch(drawn, tokens, rng)

    return _train_on_pictures("language", plan.language, plan, encoder, chat, asked, work)


def train_captioner(
    plan: EmbeddedPlan, encoder: VideoEncoder, image: "ChatParts", tokens: DialogueTokens, work: Path
) -> "tuple[ChatParts, Trained]":
    """A copy of the image chat model learns to say the captions of single pictures, and is then frozen."""
    chat = image.copy()

    def said(drawn: Sequence[Scene], rng: Random) -> TokenBatch:
        return caption_batch(captions_of(drawn, rng), tokens)

    trained = _train_on_pictures("captioner", plan.captioner, plan, encoder, chat, said, work)
    freeze(chat.lm)
    freeze(chat.projector)
    return chat, trained


def _train_on_pictures(
    name: str,
    schedule: Schedule,
    plan: EmbeddedPlan,
    encoder: VideoEncoder,
    chat: "ChatParts",
    batch_of: Callable[[Sequence[Scene], Random], TokenBatch],
    work: Path,
) -> Trained:
    """Decoder and projector on what `batch_of` has them say about single pictures; towers frozen."""
    still = VideoEncoder(encoder.tower, None)

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"{name} {plan.seed} {step}")
        drawn = varied_scenes("train", plan.language_batch, rng)
        with torch.no_grad():
            video = patches_cls(still.chat(pictures(drawn, plan.vision.image_size)[:, None]))
        return instruct_loss(chat.lm, chat.projector, video, batch_of(drawn, rng))

    modules = {"lm": chat.lm, "projector": chat.projector}
    parameters = [*chat.lm.parameters(), *chat.projector.parameters()]
    return train(name, modules, parameters, schedule, loss_at, work)


def freeze(module: nn.Module) -> None:
    """No gradients from here on."""
    module.requires_grad_(requires_grad=False).eval()


@dataclass(frozen=True, slots=True)
class ChatParts:
    """Decoder and projector of the chat model."""

    lm: "Llama"
    projector: nn.Linear

    def copy(self) -> "ChatParts":
        """The same weights in parts of their own, which learn."""
        copied = ChatParts(deepcopy(self.lm), deepcopy(self.projector))
        for part in (copied.lm, copied.projector):
            part.requires_grad_(requires_grad=True).train()
        return copied


def train_instruct(
    plan: EmbeddedPlan,
    encoder: VideoEncoder,
    chat: ChatParts,
    tokens: DialogueTokens,
    corpus: Corpus,
    work: Path,
) -> Trained:
    """Instruction tuning on videos: branch, projector and decoder learn, the towers stay frozen."""
    assert encoder.adapter is not None
    adapter = encoder.adapter

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"instruct {plan.seed} {step}")
        drawn, states = corpus.draw(plan.instruct_batch, rng, encoder.chat_reads)
        video = patches_cls(encoder.chat_from_trunk(states))
        return instruct_loss(chat.lm, chat.projector, video, question_batch(drawn, tokens, rng))

    rate = plan.instruct.learning_rate
    groups = [
        {"params": list(chat.projector.parameters())},
        {"params": [*adapter.parameters(), *chat.lm.parameters()], "lr": TUNED_RATE * rate},
    ]
    modules = {"adapter": adapter, "projector": chat.projector, "lm": chat.lm}
    return train("instruct", modules, groups, plan.instruct, loss_at, work)


def train_baseline(
    plan: EmbeddedPlan,
    still: VideoEncoder,
    chat: ChatParts,
    tokens: DialogueTokens,
    corpus: Corpus,
    work: Path,
) -> Trained:
    """The same tuning for CLIP averaged over frames, `still`: projector and decoder learn."""

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"baseline {plan.seed} {step}")
        drawn, states = corpus.draw(plan.instruct_batch, rng, still.chat_reads)
        video = patches_cls(still.chat_from_trunk(states))
        return instruct_loss(chat.lm, chat.projector, video, question_batch(drawn, tokens, rng))

    groups = [
        {"params": list(chat.projector.parameters())},
        {"params": list(chat.lm.parameters()), "lr": TUNED_RATE * plan.baseline.learning_rate},
    ]
    modules = {"projector": chat.projector, "lm": chat.lm}
    return train("baseline", modules, groups, plan.baseline, loss_at, work)


def question_batch(drawn: Sequence[Scene], tokens: DialogueTokens, rng: Random) -> TokenBatch:
    """Dialogues about the scenes."""
    rows = [tokens.row(shuffled(questions(scene, rng), rng, MOST_QUESTIONS)) for scene in drawn]
    return collate(rows, tokens.num_video, tokens.ids.eos)


def caption_batch(captions: Sequence[str], tokens: DialogueTokens) -> TokenBatch:
    """One request to describe what is shown, and its caption as the answer, for each clip or picture."""
    rows = [tokens.row([Question("caption", CAPTION_REQUEST, text, text)]) for text in captions]
    return collate(rows, tokens.num_video, tokens.ids.eos)
