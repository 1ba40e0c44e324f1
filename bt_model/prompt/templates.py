"""Chat formats of the published models, word for word (backends spec 2.6 and 3.3)."""

from dataclasses import dataclass, replace
from typing import Self

from bt_model.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Template:
    """How a dialogue is spelled.

    `between` follows the system text and every user's text. An answer ends with `answer_end`, or, where that
    is empty, with the end-of-sequence token. The video stands in the first user's turn, before or after its
    text, between `before_video` and `after_video`.
    """

    system: str
    user: str = "USER: "
    assistant: str = "ASSISTANT:"
    between: str = " "
    answer_end: str = ""
    is_video_first: bool = False
    before_video: str = "\n"
    after_video: str = ""

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.answer_end,) if self.answer_end else ()

    def opening(self, system: str | None) -> str:
        """What stands before the first user turn; a dialogue's own system turn replaces the template's."""
        text = self.system if system is None else system
        return f"{text}{self.between}" if text else ""

    def turned(self) -> Self:
        """The same, with the video on the other side of the text."""
        return replace(
            self, is_video_first=not self.is_video_first, before_video=self.after_video,
            after_video=self.before_video,
        )  # fmt: skip


_FOLLOW = (
    "that the user provides, and assist the user with a variety of tasks using natural language.Follow the "
    "instructions carefully and explain your answers in detail"
)
_LLAVA = (
    "You are LLaVA, a large language and vision assistant trained by UW Madison WAIV Lab.You are able to "
    f"understand the visual content {_FOLLOW}."
)
_HUMAN = "Human: "
_GIVE = (
    "Give the following {0}: <{1}>{2}Content</{1}>. You will be able to see the {0} once I provide it to "
    "you. Please answer my questions."
)


def _minigpt4(kind: str, tag: str, name: str) -> Template:
    return Template(
        _GIVE.format(kind, tag, name),
        user=_HUMAN,
        assistant="Assistant: ",
        between="###",
        answer_end="###",
        is_video_first=True,
        before_video=f"<{tag}>",
        after_video=f"</{tag}> ",
    )


TEMPLATES = {
    "video-chatgpt_v1": Template(
        "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video "
        f"content {_FOLLOW} based on the provided video."
    ),
    "vicuna_v1_1": Template(
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions."
    ),
    "llava_v1": Template(_LLAVA),
    "llava_v0": Template(
        f"{_LLAVA}###{_HUMAN}Hi!###Assistant: Hi there!  How can I help you today?\n",
        user=_HUMAN,
        assistant="Assistant:",
        between="###",
        answer_end="###",
    ),
    "llava_v1.5": Template(
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the human's questions.",
        is_video_first=True,
        before_video="",
        after_video="\n",
    ),
    "minigpt4": _minigpt4("image", "Img", "Image"),
    "minigpt4_video": _minigpt4("video", "Video", "Video"),
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
