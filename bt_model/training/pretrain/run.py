"""`btchat train pretrain`: from settings to a trained, exported temporal model, in one resumable run."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bt_model.errors import InvalidValueError
from bt_model.training.checkpoint import gathered
from bt_model.training.cost import Trained
from bt_model.training.curves import draw_curves
from bt_model.training.distributed import Place, Spread, World, joined, spread
from bt_model.training.job import Job, Told
from bt_model.training.loop import run
from bt_model.training.pretrain.annotations import read_clips
from bt_model.training.pretrain.config import PretrainSettings
from bt_model.training.pretrain.draws import Order, step_seed
from bt_model.training.pretrain.files import export
from bt_model.training.pretrain.groups import parameter_groups
from bt_model.training.pretrain.listing import ClipList
from bt_model.training.pretrain.loader import ClipLoader
from bt_model.training.pretrain.plan import flops_per_clip, schedule_of
from bt_model.training.pretrain.recipe import Recipe
from bt_model.training.pretrain.step import PretrainStep
from bt_model.training.pretrain.towers import Towers, fresh_step, tokenizer_of, towers_of
from bt_model.training.recompute import recompute
from bt_model.training.settings import plain
from bt_model.vision.attention import Mlp, SelfAttention

if TYPE_CHECKING:
    from torch import Tensor

NAME = "pretrain"
UNITS = (SelfAttention, Mlp)  # tensors in, tensors out: what FSDP shards and what is computed again
# what may differ between the sessions of one run: it changes how the run is computed, not what
_FREE = {"run": ("parallel", "device", "compile", "recompute", "steps", "save_every", "keep"), "data": ("workers", "prefetch", "seconds", "max_broken")}
