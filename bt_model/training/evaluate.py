"""What the embedded model can do, on scenes of colour x shape x motion combinations that training never saw.

B clips, T frames, P patches, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

import torch

from bt_model.training.corpus.captions import caption
from bt_model.training.corpus.questions import STATIC, Question, questions
from bt_model.training.corpus.scene import Scene
from bt_model.training.data import DialogueTokens, collate
from bt_model.training.stages import ChatParts, Corpus, TextSide
from bt_model.training.statistics import Share, share
from bt_model.training.step import exact_answers

if TYPE_CHECKING:
    from torch import Tensor

    from bt_model.vision.encoder import TemporalEncoder

BATCH = 32
VideoTokensOf = Callable[[Sequence["Tensor"]], "Tensor"]


@dataclass(frozen=True, slots=True)
class Answered:
    """Right or wrong by question kind and scene; both twins' answers stand under their common scene."""

    kinds: dict[str, dict[str, list[bool]]] = field(default_factory=dict[str, dict[str, list[bool]]])

    def add(self, kind: str, scene: Scene, right: bool) -> None:
        """Note one answer."""
        self.kinds.setdefault(kind, {}).setdefault(scene.key, []).append(right)

    def shares(self) -> dict[str, Share]:
        """Exact answers by kind, and `static` for all static kinds together."""
        known = {kind: share(scenes) for kind, scenes in self.kinds.items()}
        static: dict[str, list[bool]] = {}
        for kind in STATIC:
            for key, right in self.kinds.get(kind, {}).items():
                static.setdefault(key, []).extend(right)
        return {**known, "static": share(static)} if static else known

    def twins(self, kind: str) -> Share:
        """Scenes whose both time directions were answered right; an order-blind model gets none."""
        return share({key: [all(right)] for key, right in self.kinds[kind].items()})


def answer_questions(
    tokens_of: VideoTokensOf,
    chat: ChatParts,
    tokens: DialogueTokens,
    corpus: Corpus,
    *,
    held_out: bool,
    seed: int,
) -> Answered:
    """Ask every question about every clip and its twin, each as a first turn."""
    answered = Answered()
    with torch.inference_mode():
        for begin in range(0, len(corpus.scenes), BATCH):
            rows = range(begin, min(begin + BATCH, len(corpus.scenes)))
            states = corpus.cache.batch(rows)
            for backwards in (False, True):
                listed = [corpus.scenes[row].reversed() if backwards else corpus.scenes[row] for row in rows]
                video = tokens_of([x.flip(1) if backwards else x for x in states])
                asked = [
                    questions(scene, Random(f"{seed} {scene.key}"), held_out=held_out) for scene in listed
                ]
                _answer(video, chat, tokens, listed, asked, answered)
    return answered


def _answer(
    video: "Tensor",
    chat: ChatParts,
    tokens: DialogueTokens,
    listed: Sequence[Scene],
    asked: Sequence[Sequence[Question]],
    answered: Answered,
) -> None:
    for place in range(max(map(len, asked))):
        picked = [number for number, few in enumerate(asked) if place < len(few)]
        batch = collate([tokens.row([asked[n][place]]) for n in picked], tokens.num_video, tokens.ids.eos)
        right = exact_answers(chat.lm, chat.projector, video[picked], batch).tolist()
        for number, is_right in zip(picked, right, strict=True):
            answered.add(asked[number][place].kind, listed[number], is_right)


def twin_retrieval(encoder: "TemporalEncoder", text: TextSide, corpus: Corpus, seed: int) -> dict[str, Share]:
    """How often a clip is nearer to its own caption than to its twin's, by event kind; chance is 0.5."""
    right: dict[str, dict[str, list[bool]]] = {}
    with torch.inference_mode():
        for begin in range(0, len(corpus.scenes), BATCH):
            rows = range(begin, min(begin + BATCH, len(corpus.scenes)))
            states = corpus.cache.batch(rows, encoder.reads)
            listed = [corpus.scenes[row] for row in rows]
            own = _unit(text([caption(s, Random(f"{seed} {s.key}")) for s in listed]))
            other = _unit(text([caption(s.reversed(), Random(f"{seed} {s.key}")) for s in listed]))
            forward = _unit(encoder.retrieve_from_trunk(states))
            backward = _unit(encoder.retrieve_from_trunk([x.flip(1) for x in states]))
            towards = (forward * (own - other)).sum(1) > 0
            away = (backward * (other - own)).sum(1) > 0
            for scene, a, b in zip(listed, towards.tolist(), away.tolist(), strict=True):
                right.setdefault(scene.event.kind, {}).setdefault(scene.key, []).extend((a, b))
    return {kind: share(scenes) for kind, scenes in right.items()}


def _unit(x: "Tensor") -> "Tensor":
    return torch.nn.functional.normalize(x, dim=1)
