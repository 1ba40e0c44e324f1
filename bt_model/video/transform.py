"""uint8 frames -> normalised tensors, with the published constants.

T frames, H height, W width. Frames are (T, H, W, 3) RGB; tensors for the tower are (T, 3, H, W).
"""

import torch
from torch import Tensor
from torch.nn import functional as F

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
RETRIEVAL_MEAN = (122.771, 116.746, 104.093)
RETRIEVAL_STD = (68.500, 66.632, 70.323)
MAX_GREY = 255


def normalise(pixels: Tensor) -> Tensor:
    """CLIP's normalisation. (T, H, W, 3) uint8 -> (T, 3, H, W) float32."""
    return _standardise(pixels.float() / MAX_GREY, CLIP_MEAN, CLIP_STD)


def normalise_retrieval(pixels: Tensor) -> Tensor:
    """The retrieval pipeline's constants, on 0-255 values. (T, H, W, 3) uint8 -> (T, 3, H, W) float32."""
    return _standardise(pixels.float(), RETRIEVAL_MEAN, RETRIEVAL_STD)


def squash_nearest(pixels: Tensor, side: int = 224) -> Tensor:
    """The published chat resize: nearest, aspect ratio ignored. (T, H, W, 3) -> (T, side, side, 3) uint8."""
    if pixels.shape[1:3] == (side, side):
        return pixels
    planes = pixels.permute(0, 3, 1, 2).float()
    return F.interpolate(planes, size=(side, side), mode="nearest").to(torch.uint8).permute(0, 2, 3, 1)


def resize_short_side(pixels: Tensor, short_side: int) -> Tensor:
    """Bilinear without antialiasing, long side rounded to nearest. (T, H, W, 3) -> (T, h, w, 3) uint8."""
    height, width = pixels.shape[1:3]
    scale = short_side / min(height, width)
    size = (int(height * scale + 0.5), int(width * scale + 0.5))
    planes = pixels.permute(0, 3, 1, 2).float()
    scaled = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)
    return scaled.round().clamp(0, MAX_GREY).to(torch.uint8).permute(0, 2, 3, 1)


def centre_crop(pixels: Tensor, side: int) -> Tensor:
    """(T, H, W, 3) -> (T, side, side, 3); an odd margin leaves the extra pixel right and below."""
    top, left = (pixels.shape[1] - side) // 2, (pixels.shape[2] - side) // 2
    return pixels[:, top : top + side, left : left + side]


def _standardise(values: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    shift, scale = values.new_tensor(mean), values.new_tensor(std)
    return ((values - shift) / scale).permute(0, 3, 1, 2).contiguous()
