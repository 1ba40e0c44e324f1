"""Batches of drawn clips and pictures for the training steps, each decided by the step's number alone.

B clips or pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from bt_model.training.data.sampling import draw_masks, mask_at
from bt_model.training.instruct.step import InstructBatch
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch
from lab.pictures import STATIC_SHARE, captions_of

if TYPE_CHECKING:
    from bt_model.training.data.dialogues import VideoDialogue
    from bt_model.training.data.spelling import Speller
    from bt_model.training.pretrain.captioner import CaptionTokenizer
    from bt_model.training.pretrain.settings import MaskSettings
    from lab.chat_model import TextEncoder
    from lab.clips import CachedClips, SceneBatch
    from lab.shapes.scene import Scene


@dataclass(frozen=True, slots=True)
class CaptionedClips:
    """Batches of pre-training: half of each are clips, the others their twins; states in place of frames.

    `name` and `seed` decide what is drawn. The run has `num_steps` steps, `answers` are captions in a
    captioner's tokens, and of the captions `static_share` leave the event out.
    """

    name: str
    seed: int
    clips: "CachedClips"
    size: int
    reads: range
    text: "TextEncoder"
    mask: "MaskSettings"
    num_steps: int
    answers: "CaptionTokenizer | None" = None
    static_share: float = STATIC_SHARE

    def batch(self, step: int, part: int = 0) -> PretrainBatch:
        """The whole step's batch: there are no parts."""
        assert part == 0
        rng = Random(f"{self.name} {self.seed} {step}")
        drawn = self.clips.draw(self.size, rng, self.reads)
        captions = captions_of(drawn.scenes, rng, static_share=self.static_share)
        answers = None if self.answers is None else self.answers.batch(captions)
        mask = mask_at(self.mask, step, self.num_steps)
        num_frames, num_tokens = drawn.clips.shape[2:4]
        samples = range(step * self.size, step * self.size + len(captions))
        masks = draw_masks(mask, self.seed, samples, num_frames, num_tokens - 1)
        return PretrainBatch(drawn.clips, CaptionBatch.of(captions, self.text.ids(captions), answers), masks)


@dataclass(frozen=True, slots=True)
class SceneDialogues:
    """Batches of tuning: clips or pictures that `draw` gives, with dialogues that `write` has about them.

    `name` and `seed` decide what is drawn; each clip becomes `num_video` tokens.
    """

    name: str
    seed: int
    draw: "Callable[[Random], SceneBatch]"
    write: "Callable[[Sequence[Scene], Random], list[VideoDialogue]]"
    speller: "Speller"
    num_video: int

    def batch(self, step: int, part: int = 0) -> InstructBatch:
        """The whole step's batch: there are no parts."""
        assert part == 0
        rng = Random(f"{self.name} {self.seed} {step}")
        drawn = self.draw(rng)
        tokens = self.speller.batch(self.write(drawn.scenes, rng), self.num_video)
        return InstructBatch(tuple(drawn.clips), tokens)
