"""Video-ChatGPT, the baseline: LLaVA with another pooling, 100 temporal and P spatial means.

Its own file of embeddings and projector replaces those of a LLaVA folder; the model file sets the pooling.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from bt_model.backends import llava

if TYPE_CHECKING:
    from bt_model.backends.base import BackendFiles
    from bt_model.backends.llava import LlavaBackend


def create(files: "BackendFiles") -> "LlavaBackend":
    """Build the backend from a LLaVA folder and Video-ChatGPT's own file.

    Raises:
        CheckpointError: a file or tensor that is missing, unexpected or of the wrong shape.
    """
    return replace(llava.create(files), name="video-chatgpt")
