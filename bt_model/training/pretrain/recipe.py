"""From sample indices of a run to batches: which frames, crop, caption and mask."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from bt_model.decoding.pool import DecodePool
from bt_model.decoding.wire import Request
from bt_model.training.data.clip_list import ClipList
from bt_model.training.data.clip_reader import decode_pool
from bt_model.training.data.sampling import SampleOrder, clip_draws, draw_masks, mask_at
from bt_model.training.pretrain.step import CaptionBatch, PretrainBatch
from bt_model.types import FrameSize, Sampling
from bt_model.video.crop import Crop, Cutout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bt_model.text.clip_tokenizer import ClipTokenizer
    from bt_model.training.pretrain.captioner import CaptionTokenizer
    from bt_model.training.pretrain.config import MaskSettings, PretrainData


@dataclass(frozen=True, slots=True)
class PretrainRecipe:
    """Makes batches of a list of clips; `side` and `num_patches` are the tower's.

    The run has `num_steps` steps. `answers` are captions in the captioner's tokens, None without one.
    """

    data: "PretrainData"
    mask: "MaskSettings"
    order: SampleOrder
    tokenizer: "ClipTokenizer"
    side: int
    num_patches: int
    num_steps: int
    answers: "CaptionTokenizer | None" = None

    def clip_reader(self) -> DecodePool:
        """Children that decode."""
        return decode_pool(self.data)

    def request(self, clips: ClipList, sample: int, clip: int) -> Request:
        """What a decode child is asked for: frames and a box drawn at random, or the central ones."""
        data, source = self.data, clips.source(clip)
        rng = clip_draws(self.order.seed, sample)
        frame_seed, box_seed = (int(x) for x in rng.integers(2**31, size=2))
        if data.crop == "random":
            sampling = Sampling(num_frames=data.frames, strategy="random", seed=frame_seed)
            crop = Crop(data.min_area, data.max_area, data.min_aspect, data.max_aspect)
            cutout = Cutout(self.side, box_seed, crop)
        else:
            sampling, cutout = Sampling(num_frames=data.frames, strategy="retrieval"), Cutout(self.side)
        size = FrameSize(data.short_side, "whole")
        return Request("frames", sampling, (size,), start=source.start, length=source.length, cutout=cutout)

    def caption(self, clips: ClipList, sample: int, clip: int) -> str:
        """One of a clip's captions."""
        captions = clips.captions_of(clip)
        rng = clip_draws(self.order.seed, sample)
        return captions[int(rng.integers(2**31, size=3)[2]) % len(captions)]

    def batch(
        self,
        clips: ClipList,
        samples: range,
        chosen: list[int],
        pixels: "list[NDArray[np.uint8]]",
        num_skipped: int,
    ) -> PretrainBatch:
        """Decoded clips with their captions and masks."""
        captions = [self.caption(clips, sample, clip) for sample, clip in zip(samples, chosen, strict=True)]
        ids = self.tokenizer(captions, self.data.tokens, upstream_compat=self.data.upstream_cut)
        mask = mask_at(self.mask, self.order.step(samples.start), self.num_steps)
        masks = draw_masks(mask, self.order.seed, samples, self.data.frames, self.num_patches)
        answers = None if self.answers is None else self.answers.batch(captions)
        frames = torch.from_numpy(np.stack(pixels))
        return PretrainBatch(frames, CaptionBatch.of(captions, ids, answers), masks, num_skipped)
