"""uint8 frames -> normalised tensors, with the published constants.

T frames, H height, W width. Frames are (T, H, W, 3) RGB; tensors for the tower are (T, 3, H, W).
"""

from torch import Tensor

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


def _standardise(values: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    shift, scale = values.new_tensor(mean), values.new_tensor(std)
    return ((values - shift) / scale).permute(0, 3, 1, 2).contiguous()
