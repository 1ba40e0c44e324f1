"""Named settings in one table; a run's own file and its command line stand above them."""

from functools import partial
from typing import Any

from bt_model.training.settings import chosen

_ALIKE: dict[str, dict[str, Any]] = {
    "model": {"pooling": "patches_cls"},
    "data": {"frames": 100, "strategy": "middle", "short_side": 256, "max_length": 2048},
    "run": {"precision": "float16", "recompute": True},
}
_COURSE = {"epochs": 3, "rate": 2e-5, "warmup": 0.03, "floor": 0.0, "weigh": "dialogue", "clip_norm": 1.0}

# training spec, section 2. Where the paper says nothing, `paper` has the published script's value. The script
# starts from a branch copied out of CLIP unless it is given one; here it is given the base's.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "paper": {
        **_ALIKE,
        "learn": {"projector": True, "temporal": True, "gates": True, "tokens": False},
        "optimiser": {**_COURSE, "batch": 4, "beta1": 0.9, "beta2": 0.998, "weight_decay": 0.1},
    },
    "published": {
        **_ALIKE,
        "model": {
            **_ALIKE["model"],
            "template": "vicuna_v1_1",
            "served_template": "video-chatgpt_v1",
        },
        "data": {**_ALIKE["data"], "place": "published"},
        "learn": {"projector": True, "temporal": True, "gates": False, "tokens": True},
        "optimiser": {**_COURSE, "batch": 8, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0},
    },
}

preset = partial(chosen, PRESETS)
