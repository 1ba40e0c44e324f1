"""The stages of the embedded model, in order: towers, branch, language, instruction, baseline.

A clip played backwards is its twin: trunk states of the twin are the same states in reverse order, so every
batch holds each drawn clip and its twin, the hardest negative there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import nn

from bt_model.text.tokenizer import ClipTokenizer
from bt_model.training.config import EmbeddedPlan
from bt_model.training.corpus.captions import caption
from bt_model.training.corpus.cues import paint_pictures
from bt_model.training.corpus.questions import questions
from bt_model.training.corpus.scene import SHAPES, Scene, Still
from bt_model.training.corpus.splits import scenes, split_of
from bt_model.training.cost import Trained
from bt_model.training.data import DialogueTokens, TokenBatch, TrunkCache, collate, group_numbers, shuffled
from bt_model.training.loop import train
from bt_model.training.losses import contrastive
from bt_model.training.masking import generator_for, tube_mask
from bt_model.training.step import AlignmentHead, instruct_loss, pretrain_loss
from bt_model.video.transform import normalise
from bt_model.vision.encoder import ChatFeatures, VideoEncoder
from bt_model.vision.pool import patches_cls

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.generation.llama import Llama
    from bt_model.text.clip_text import ClipTextTower

EVENT_SHARES = ("move", "order", "move", "change", "move", "order", "still")  # by how hard they are
TWIN_SHARE = 0.5
STATIC_SHARE = 0.3  # of the captions leave the event out (training spec 6.1 f)
MOST_QUESTIONS = 3
INITIAL_SCALE = 1 / 0.07  # CLIP's own start of the learnt temperature
MAX_SCALE = 100.0
TUNED_RATE = 0.5  # of the projector's learning rate, for what was trained before


@dataclass(frozen=True, slots=True)
class Corpus:
    """Training scenes and their clips' cached trunk states, row by row."""

    scenes: Sequence[Scene]
    cache: TrunkCache

    def draw(self, batch: int, rng: Random, reads: range | None = None) -> "tuple[list[Scene], list[Tensor]]":
        """Half a batch of clips and their twins: scenes (B), and hidden states, each (B, T, 1 + P, D).

        `reads` are the numbers of the states; None for all that are cached.
        """
        rows = rng.sample(range(len(self.scenes)), batch // 2)
        states = self.cache.batch(rows, reads)
        drawn = [self.scenes[row] for row in rows]
        both = [torch.cat([x, x.flip(1)]) for x in states]
        return [*drawn, *(scene.reversed() for scene in drawn)], both


class TextSide(nn.Module):
    """Text tower with its tokenizer and the learnt temperature of CLIP's own training."""

    def __init__(self, tower: "ClipTextTower", tokenizer: ClipTokenizer) -> None:
        super().__init__()
        self.tower = tower
        self.tokenizer = tokenizer
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_SCALE).log())

    def forward(self, texts: Sequence[str]) -> "Tensor":
        return self.tower(self.tokenizer(texts, self.tower.config.context_length))


def picture_scenes(batch: int, rng: Random) -> list[Scene]:
    """Training scenes to draw as pictures."""
    return scenes("train", batch, seed=rng.getrandbits(48), kinds=EVENT_SHARES)


def with_partners(drawn: Sequence[Scene], rng: Random) -> list[Scene]:
    """Scenes and, in the second half, a partner of each that differs in one thing: event order or shape."""
    return [*drawn, *(_partner(scene, rng) for scene in drawn)]


def _partner(scene: Scene, rng: Random) -> Scene:
    if not isinstance(scene.event, Still) and rng.random() < TWIN_SHARE:
        return scene.reversed()
    shapes = rng.sample(SHAPES, len(SHAPES))
    others = [replace(scene, item=replace(scene.item, shape=shape)) for shape in shapes]
    allowed = (other for other in others if other != scene and split_of(other) == "train")
    return next(allowed, scene.reversed())


def captions_of(drawn: Sequence[Scene], rng: Random) -> list[str]:
    """A caption for each scene; its partner's has the same words but for what differs."""
    state, half = rng.getrandbits(64), len(drawn) // 2
    words = [Random(f"{state} {number % half}") for number in range(len(drawn))]
    return [caption(scene, own, static_share=STATIC_SHARE) for scene, own in zip(drawn, words, strict=True)]


def pictures(drawn: Sequence[Scene]) -> "Tensor":
    """Scenes as single pictures with their cues: (B, 3, H, W) normalised."""
    return normalise(torch.from_numpy(paint_pictures(drawn)))


def train_towers(plan: EmbeddedPlan, encoder: VideoEncoder, text: TextSide, work: Path) -> Trained:
    """CLIP on single pictures and captions."""
    tower = encoder.tower
    last = plan.vision.num_layers

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"towers {plan.seed} {step}")
        drawn = with_partners(picture_scenes(plan.clip_batch // 2, rng), rng)
        texts = captions_of(drawn, rng)
        (x,) = tower(pictures(drawn), range(last, last + 1))
        scale = text.log_scale.exp().clamp(max=MAX_SCALE)
        return contrastive(tower.project(x[:, 0]), text(texts), group_numbers(texts), scale=scale)

    parameters = [*tower.parameters(), *text.parameters()]
    return train("towers", {"vision": tower, "text": text}, parameters, plan.clip, loss_at, work)


def train_branch(
    plan: EmbeddedPlan, encoder: VideoEncoder, head: AlignmentHead, text: TextSide, corpus: Corpus, work: Path
) -> Trained:
    """Masked video-text pre-training of the BT-Adapter beside the frozen towers."""
    assert encoder.adapter is not None

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"branch {plan.seed} {step}")
        drawn, states = corpus.draw(plan.pretrain_batch, rng, encoder.reads)
        texts = captions_of(drawn, rng)
        with torch.no_grad():
            embeds = text(texts)
        visible = tube_mask(
            len(drawn), plan.vision.num_patches, plan.mask_rate, generator_for(plan.seed, step)
        )
        return pretrain_loss(encoder, head, states, embeds, group_numbers(texts), visible, plan.losses)

    modules = {"adapter": encoder.adapter, "head": head}
    parameters = [*encoder.adapter.parameters(), *head.parameters()]
    return train("branch", modules, parameters, plan.pretrain, loss_at, work)


def train_language(
    plan: EmbeddedPlan, encoder: VideoEncoder, chat: "ChatParts", tokens: DialogueTokens, work: Path
) -> Trained:
    """The image chat model: decoder and projector on questions about single pictures, towers frozen."""
    still = VideoEncoder(encoder.tower, None)

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"language {plan.seed} {step}")
        drawn = picture_scenes(plan.language_batch, rng)
        with torch.no_grad():
            video = patches_cls(still.chat(pictures(drawn)[:, None]))
        return instruct_loss(chat.lm, chat.projector, video, question_batch(drawn, tokens, rng))

    modules = {"lm": chat.lm, "projector": chat.projector}
    parameters = [*chat.lm.parameters(), *chat.projector.parameters()]
    return train("language", modules, parameters, plan.language, loss_at, work)


@dataclass(frozen=True, slots=True)
class ChatParts:
    """Decoder and projector of the chat model."""

    lm: "Llama"
    projector: nn.Linear


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
    plan: EmbeddedPlan, chat: ChatParts, tokens: DialogueTokens, corpus: Corpus, work: Path
) -> Trained:
    """The same tuning for CLIP averaged over frames: projector and decoder learn."""

    def loss_at(step: int) -> "Tensor":
        rng = Random(f"baseline {plan.seed} {step}")
        drawn, states = corpus.draw(plan.instruct_batch, rng)
        return instruct_loss(chat.lm, chat.projector, frame_mean(states), question_batch(drawn, tokens, rng))

    groups = [
        {"params": list(chat.projector.parameters())},
        {"params": list(chat.lm.parameters()), "lr": TUNED_RATE * plan.baseline.learning_rate},
    ]
    modules = {"projector": chat.projector, "lm": chat.lm}
    return train("baseline", modules, groups, plan.baseline, loss_at, work)


def frame_mean(states: "Sequence[Tensor]") -> "Tensor":
    """Hidden state -2 of CLIP alone, averaged; K x (B, T, 1 + P, D) as cached -> (B, P + 1, D)."""
    return patches_cls(ChatFeatures(states[-2]))


def question_batch(drawn: Sequence[Scene], tokens: DialogueTokens, rng: Random) -> TokenBatch:
    """Dialogues about the scenes."""
    rows = [tokens.row(shuffled(questions(scene, rng), rng, MOST_QUESTIONS)) for scene in drawn]
    return collate(rows, tokens.num_video, tokens.ids.eos)
