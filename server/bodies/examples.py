"""Requests that the OpenAPI document shows, by their operations; tests send each of them."""

from collections.abc import Mapping
from typing import Any

VIDEO = "vid_5e1f0c2a9b7d4e6f8a3c1d2b4e6f8a9c"
"""The upload of all examples; whoever tries one puts an id of an own upload in its place."""

_ASK = {"role": "user", "content": "What happens in this video?"}
_PART = {"type": "video_url", "video_url": {"url": VIDEO, "num_frames": 8}}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "show_frames": {
        "Eight frames of the first four seconds": {
            "video": VIDEO,
            "sampling": {"num_frames": 8, "start": 0, "end": 4},
        },
        "A frame a second, 32 at most": {"video": VIDEO, "sampling": {"fps": 1, "max_frames": 32}},
    },
    "estimate": {
        "A video alone": {"video": VIDEO, "sampling": {"num_frames": 8}},
        "A question": {"video": VIDEO, "question": "What happens in this video?", "max_tokens": 40},
    },
    "show_tokens": {"As JSON": {"video": VIDEO, "format": "json"}},
    "chat": {
        "A question": {"video": VIDEO, "question": "What happens in this video?"},
        "A dialogue, in events": {
            "video": VIDEO,
            "messages": [_ASK, {"role": "assistant", "content": "It blinks."}, _ASK],
            "stream": True,
        },
        "A window, and a short answer": {
            "video": [{"url": VIDEO, "end": 4}],
            "question": "What happens until the fourth second?",
            "sampling": {"num_frames": 4},
            "max_tokens": 40,
        },
    },
    "complete": {
        "A video as a part": {
            "messages": [{"role": "user", "content": [_PART, {"type": "text", "text": _ASK["content"]}]}]
        },
        "A video beside the messages": {"video": VIDEO, "messages": [_ASK], "temperature": 0},
    },
    "respond": {
        "A video": {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_video", "file_id": VIDEO},
                        {"type": "input_text", "text": _ASK["content"]},
                    ],
                }
            ]
        },
    },
}
