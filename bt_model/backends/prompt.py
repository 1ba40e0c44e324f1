"""Dialogues to prompt segments: templates, the place of the video, and the rule for special ids.

Special ids are inserted by number, never spelled: text from outside is encoded piece by piece without any
special token (backends spec, section 5 rule 6).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bt_model.errors import UnknownNameError
from bt_model.generation.request import Segment, Soft, Tokens
from bt_model.types import Turn, check_turns


@dataclass(frozen=True, slots=True)
class Template:
    """A two-separator chat format: `system USER: text ASSISTANT: text</s>USER: …` (backends spec 2.6)."""

    system: str
    user: str = "USER"
    assistant: str = "ASSISTANT"

    def opening(self, system: str | None) -> str:
        """What stands before the first user turn; a dialogue's own system turn replaces the template's."""
        text = self.system if system is None else system
        return f"{text} " if text else ""


TEMPLATES = {
    "video-chatgpt_v1": Template(
        "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video "
        "content that the user provides, and assist the user with a variety of tasks using natural "
        "language.Follow the instructions carefully and explain your answers in detail based on the "
        "provided video."
    ),
    "vicuna_v1_1": Template(
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions."
    ),
    "llava_v1": Template(
        "You are LLaVA, a large language and vision assistant trained by UW Madison WAIV Lab.You are able "
        "to understand the visual content that the user provides, and assist the user with a variety of "
        "tasks using natural language.Follow the instructions carefully and explain your answers in detail."
    ),
    "plain": Template(""),
}


def template(name: str) -> Template:
    """The template of that name.

    Raises:
        UnknownNameError: no such template.
    """
    if name not in TEMPLATES:
        raise UnknownNameError(f"template is {name!r}; allowed: {', '.join(TEMPLATES)}", param="template")
    return TEMPLATES[name]


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Token ids that only the server inserts."""

    bos: int
    eos: int
    video_start: int
    video_end: int


def segments(
    turns: Sequence[Turn],
    style: Template,
    ids: SpecialIds,
    encode: Callable[[str], list[int]],
    video: Soft | None,
) -> tuple[Segment, ...]:
    """The prompt of a dialogue: one BOS at the very start, the video after the first user's text.

    Raises:
        InvalidValueError: see `check_turns`.
    """
    check_turns(turns)
    system = turns[0].text if turns[0].role == "system" else None
    spoken = turns if system is None else turns[1:]
    done: list[Segment] = []
    run, text = [ids.bos], style.opening(system)
    for number, turn in enumerate(spoken):
        if turn.role == "assistant":
            run += [*encode(f"{text} {turn.text}"), ids.eos]
            text = ""
            continue
        text += f"{style.user}: {turn.text}"
        if number == 0 and video is not None:
            done += [Tokens((*run, *encode(f"{text}\n"), ids.video_start)), video]
            run, text = [ids.video_end], ""
        text += f" {style.assistant}:"
    return (*done, Tokens((*run, *encode(text))))
