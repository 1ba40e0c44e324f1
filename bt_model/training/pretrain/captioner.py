"""The frozen chat model of `loss.caption`: how it is loaded, and captions in its tokens.

A chat model that describes pictures reads, in place of a picture, what the branch made of a clip; the less
likely it finds the clip's caption, the larger the loss (objectives/captioner.py). It is never trained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bt_model.assembly.towers import load_tower
from bt_model.backends.parts.llm import read_llama_config
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.checkpoints.load import CHAT_MAY_MISS
from bt_model.checkpoints.weights import open_checkpoint
from bt_model.errors import InvalidValueError, UnknownNameError, require
from bt_model.training.chat_base import ChatModelFile, find_base, load_language, speller_of
from bt_model.training.data.dialogues import Exchange, VideoDialogue
from bt_model.training.data.tokens import TokenBatch, collate
from bt_model.training.objectives.captioner import Captioner
from bt_model.vision.pool import patches_cls, pooling

if TYPE_CHECKING:
    from bt_model.config import ClipVisionConfig
    from bt_model.training.data.spelling import Speller
    from bt_model.training.pretrain.settings import PretrainSettings
    from bt_model.vision.clip import ClipVisionTower

SELECT_LAYER = -2  # the trunk state that it reads, beside the branch's second-to-last layer


@dataclass(frozen=True, slots=True)
class CaptionTokenizer:
    """Captions as answers to one request, beside `num_video` tokens of a clip."""

    speller: "Speller"
    request: str
    num_video: int
    max_length: int

    def batch(self, captions: Sequence[str]) -> TokenBatch:
        """Rows of B captions; a row that exceeds the language model's context is cut."""
        dialogues = [VideoDialogue("", (Exchange(self.request, caption),)) for caption in captions]
        rows = [self.speller.row(dialogue, self.num_video).cut(self.max_length) for dialogue in dialogues]
        return collate(rows, self.num_video, self.speller.ids.eos)


def captioner_file(settings: "PretrainSettings") -> ChatModelFile:
    """The captioner's model file.

    Raises:
        InvalidValueError: a backend without a projector before a Llama, or another pooling.
        UnknownNameError: no such model.
        CheckpointError: a file that cannot be read.
    """
    given = settings.model
    base = find_base(given.captioner, Path(given.weights), param="model.captioner")
    for name, needed in (("pooling", patches_cls.__name__), ("select_layer", SELECT_LAYER)):
        found = getattr(base.file, name)
        require(found == needed, "model.captioner", f"{given.captioner}, {name} {found}", f"{name} {needed}")
    return base


def is_captioner_there(settings: "PretrainSettings") -> bool:
    """Whether the captioner's file is found, or none is needed."""
    try:
        return not settings.model.captioner or bool(captioner_file(settings))
    except UnknownNameError:
        return False


def caption_tokenizer(settings: "PretrainSettings", vision: "ClipVisionConfig") -> CaptionTokenizer:
    """What turns captions into the captioner's tokens.

    Raises:
        UnknownNameError: no such model.
        CheckpointError: no tokenizer there.
        InvalidValueError: a request that leaves no room for a caption.
    """
    base, request = captioner_file(settings), settings.loss.request
    num_video = pooling(base.file.pooling).num_tokens(vision.num_patches)
    context = read_llama_config(base.at(base.file.llm)).max_context
    tokenizer = CaptionTokenizer(speller_of(base), request, num_video, context)
    if not tokenizer.batch(["a"]).num_answer_tokens.all():
        raise InvalidValueError(
            f"loss.request is {request!r}; allowed: one that leaves room in a context of {context} tokens, "
            f"of which the clip takes {num_video}",
            param="loss.request",
        )
    return tokenizer


def load_captioner(settings: "PretrainSettings", tower: "ClipVisionTower") -> Captioner:
    """The model on the CPU.

    Raises:
        CheckpointError: weights that are missing or do not fit.
        InvalidValueError: it reads another tower than the run's.
    """
    base = captioner_file(settings)
    theirs = base.at(base.file.tower)
    is_same = theirs.resolve() == Path(settings.model.clip).resolve()
    if not is_same and _what_it_reads(load_tower(open_checkpoint(theirs)).float()) != _what_it_reads(tower):
        raise InvalidValueError(
            f"model.captioner reads {theirs}; allowed: one over the same weights as model.clip, "
            f"{settings.model.clip}",
            param="model.captioner",
        )
    return Captioner(*load_language(base, tower.config, settings.run.precision))


def _what_it_reads(tower: "ClipVisionTower") -> str:
    """A fingerprint of the tower without its last norm and projection, which published towers may lack."""
    state = tower.state_dict()
    return fingerprint({name: x for name, x in state.items() if not name.startswith(CHAT_MAY_MISS)})
