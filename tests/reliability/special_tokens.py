"""Texts that spell a model's own tokens: they are letters like any others."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

from tests import tiny
from tests.reliability.goal import Figure, Goal
from tests.reliability.program import Program, one_of_its_own

_FORMS = ("{}", "a {} b", "{0}{0}", "<{}>", "x{}")
_PLACES = ("user", "system", "history", "no video")
_LOOK_ALIKE = ("<\u200bs>", "<\u0455>", "<S>", "\uff1cs\uff1e")
_OTHERS = ("<image>", "<video>", "<|im_start|>", "<|eot_id|>", "[INST]", *_LOOK_ALIKE)
_NUM_VIDEO_TOKENS = tiny.P + 1


def spelled(is_full: bool) -> Figure:
    """Each in several forms and places. A name that became an id is one token, however long it is."""
    with one_of_its_own(is_full) as program:
        path = program.folder / "tiny" / "llava_video" / "tokenizer.json"
        own = [token["content"] for token in json.loads(path.read_text(encoding="utf-8"))["added_tokens"]]
        video = program.upload()
        asked = list(product((*own, *_OTHERS), _FORMS if is_full else _FORMS[:1], _PLACES))
        with ThreadPoolExecutor(8) as pool:
            usages = list(pool.map(lambda each: _usage(program, video, *each), asked))
            masked = list(pool.map(lambda each: _usage(program, video, _masked(each[0]), *each[1:]), asked))
    failed = sum(usage is None for usage in usages)
    counts = {usage["prompt_tokens_details"]["video_tokens"] for usage in usages if usage}
    fewer = [
        name
        for (name, *_), usage, letters in zip(asked, usages, masked, strict=True)
        if usage and letters and usage["prompt_tokens"] < letters["prompt_tokens"] - len(name) // 2
    ]
    text = (
        f"{len(asked)} prompts, {failed} refused; video tokens {sorted(counts)}; "
        f"{len(fewer)} with fewer tokens than their letters"
    )
    return Figure(text, is_met=not failed and counts == {0, _NUM_VIDEO_TOKENS} and not fewer)


def _masked(name: str) -> str:
    """As many letters that no token stands for."""
    return "%" * len(name)


def _usage(program: Program, video: str, name: str, form: str, place: str) -> dict[str, Any] | None:
    """The counts of an answer; None where there is none."""
    text = form.format(name)
    parts: list[dict[str, Any]] = [
        {"type": "video_url", "video_url": {"url": video}},
        {"type": "text", "text": "?"},
    ]
    messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
    match place:
        case "user":
            parts[1]["text"] = text
        case "system":
            messages.insert(0, {"role": "system", "content": text})
        case "history":
            messages += [{"role": "assistant", "content": text}, {"role": "user", "content": "?"}]
        case _:
            messages = [{"role": "user", "content": text}]
    with program.client() as client:
        body = {"model": tiny.MODEL, "messages": messages, "max_tokens": 1}
        answer = client.post("/v1/chat/completions", json=body)
    return answer.json()["usage"] if answer.is_success else None


GOALS = (
    Goal(
        "G19",
        "300 prompts that spell special tokens: 0 become ids, the video's tokens are ours alone",
        spelled,
    ),
)
