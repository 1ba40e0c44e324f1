"""Which frames of a video are read, and how each becomes the tower's square.

T frames, H height, W width.

From sample indices of a run to batches: which dialogue, which frames or states of its video.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from bt_model.decoding.wire import Request
from bt_model.training.data.dialogues import VideoDialogue
from bt_model.training.data.features import FeatureReader
from bt_model.training.data.loader import ClipReader, decode_pool
from bt_model.training.data.spelling import Speller
from bt_model.training.instruct.step import InstructBatch
from bt_model.types import FrameSize, ResizeMode, Sampling, Strategy
from bt_model.video.crop import Cutout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bt_model.decoding.wire import Request
    from bt_model.training.data.clip_list import ClipList, ClipSource
    from bt_model.training.data.sampling import SampleOrder
    from bt_model.training.instruct.settings import InstructData


@dataclass(frozen=True, slots=True)
class Framing:
    """T frames by `strategy`, scaled by `fit` to `short_side`, then cropped at the centre to `side`."""

    num_frames: int
    strategy: Strategy
    side: int
    short_side: int
    fit: ResizeMode | Literal["whole"]

    @classmethod
    def of(cls, data: "InstructData", side: int, served: ResizeMode) -> "Framing":
        """From a data section and the tower's image size; as in serving if no short side is set."""
        if not data.short_side:
            return cls(data.frames, data.strategy, side, side, served)
        return cls(data.frames, data.strategy, side, max(side, data.short_side), "whole")

    def request(self, source: "ClipSource") -> Request:
        """The request to a decode child."""
        return Request(
            "frames",
            Sampling(num_frames=self.num_frames, strategy=self.strategy),
            (FrameSize(self.short_side, self.fit),),
            start=source.start,
            length=source.length,
            cutout=Cutout(self.side),
        )

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DialogueRecipe:
    """Makes batches of a list of dialogues; a video of T frames has `num_video` tokens."""

    data: "InstructData"
    order: "SampleOrder"
    framing: Framing
    speller: Speller
    num_video: Callable[[int], int]

    def clip_reader(self) -> ClipReader:
        """The pool that reads videos, or their stored states."""
        return FeatureReader(self.data.workers) if self.data.features else decode_pool(self.data)

    def request(self, clips: "ClipList", sample: int, clip: int) -> "Request":
        """The request for a dialogue's video, whose frames do not depend on the sample index."""
        del sample
        return self.framing.request(clips.source(clip))

    def batch(
        self,
        clips: "ClipList",
        samples: range,
        chosen: list[int],
        pixels: "list[NDArray[Any]]",
        num_skipped: int,
    ) -> InstructBatch:
        """A batch of decoded videos with their dialogues."""
        del samples
        videos = tuple(torch.from_numpy(np.require(each, requirements="W")) for each in pixels)
        frames_at = 1 if self.data.features else 0  # axis
        counts = [self.num_video(each.shape[frames_at]) for each in videos]
        dialogues = [VideoDialogue.unpacked(clips.captions_of(clip)[0]) for clip in chosen]
        return InstructBatch(videos, self.speller.batch(dialogues, counts), num_skipped)
