"""Preprocessing cases and the table of frame indices.

n frames, H height, W width. Errors are grey levels and index differences; nearest resize is exact.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from bt_model.types import FrameSize
from bt_model.video.sample import middle, published, retrieval_test, segment_bounds
from bt_model.video.square import centre, scaled_size
from bt_model.video.transform import MAX_GREY, normalise, normalise_retrieval
from tests.parity_cases.case import Case, Check, largest_difference, relative_error

GREY_LEVEL = 1.0


def preprocess_chat(case: Case) -> list[Check]:
    frames, want = case.inputs["frames"], case.expects
    indices = published(len(frames), case.config["num_frm"])
    side = want["resized"].shape[1]
    resized = _interpolated(frames[indices], (side, side), mode="nearest").to(torch.uint8)
    return [
        _exact("indices", indices, case.facts["indices"]),
        Check("resized", largest_difference(resized, want["resized"]), 0.0),
        Check("pixel_values", relative_error(normalise(resized), want["pixel_values"]), case.tolerance),
    ]


def preprocess_retrieval(case: Case) -> list[Check]:
    want = case.expects
    frames, side = case.inputs["frames"], case.config["crop"]
    size = FrameSize(case.config["short_side"], "whole")
    width, height = scaled_size(frames.shape[2], frames.shape[1], size)
    scaled = _interpolated(frames, (height, width), mode="bilinear", align_corners=False)
    resized = scaled.round().clamp(0, MAX_GREY).to(torch.uint8)
    cropped = torch.from_numpy(np.stack([centre(frame, side) for frame in resized.numpy()]))
    # Constants are compared on the published crop: a grey level of the resize is more than their tolerance.
    normalised = normalise_retrieval(want["cropped"])
    return [
        Check("resized", largest_difference(resized, want["resized"]), GREY_LEVEL),
        Check("cropped", largest_difference(cropped, want["cropped"]), GREY_LEVEL),
        Check("normalized", relative_error(normalised, want["normalized"]), case.tolerance),
    ]


def sampler(path: Path) -> list[Check]:
    table: dict[str, list[dict[str, Any]]] = json.loads(path.read_text())
    checks = [
        _exact(f"chat_inference {row['total']}", published(row["total"], row["wanted"]), row["indices"])
        for row in table["chat_inference"]
    ]
    checks += [
        _exact(
            f"retrieval_test {row['total']}", retrieval_test(row["total"], row["clip_len"]), row["indices"]
        )
        for row in table["retrieval_test"]
    ]
    checks += [
        _exact(f"feature_extraction {row['total']}", middle(row["total"], row["num_clips"]), row["indices"])
        for row in table["feature_extraction"]
    ]
    for row in table["retrieval_train"]:
        bounds = segment_bounds(row["total"], row["clip_len"])
        draw = np.random.RandomState(row["example_numpy_seed"])
        name = f"retrieval_train {row['total']}"
        checks += [
            _exact(f"{name} low", [low for low, _ in bounds], row["low_inclusive"]),
            _exact(f"{name} high", [high for _, high in bounds], row["high_inclusive"]),
            _exact(f"{name} draw", [draw.randint(low, high + 1) for low, high in bounds], row["example"]),
        ]
    return checks


def _interpolated(frames: Tensor, size: tuple[int, int], **how: Any) -> Tensor:
    """(n, H, W, 3) -> (n, *size, 3) float32: the published pipelines resize whole clips as tensors."""
    return interpolate(frames.permute(0, 3, 1, 2).float(), size=size, **how).permute(0, 2, 3, 1)


def _exact(name: str, got: list[int], want: list[int]) -> Check:
    return Check(name, largest_difference(torch.tensor(got), torch.tensor(want)), 0.0)
