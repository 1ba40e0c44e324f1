"""Chat formats of the published models, word for word, as parts that the prompt walks.

A part is plain text, a special token of the model's tokenizer, or a slot. Everything that a dialogue becomes
stands in a template's parts: `segments.py` adds no space and no end of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Self

from bt_model.errors import UnknownNameError


class Slot(Enum):
    """What is filled in: a text, the video's soft tokens with their markers, or the end-of-sequence id."""

    SYSTEM = auto()
    USER = auto()
    VIDEO = auto()
    ANSWER = auto()
    EOS = auto()


@dataclass(frozen=True, slots=True)
class Special:
    """A special token by its name in the tokenizer; its id is inserted, its name is never tokenised."""

    name: str


Part = str | Special | Slot
Parts = tuple[Part, ...]

_SYSTEM, _USER, _VIDEO, _ANSWER, _EOS = Slot


@dataclass(frozen=True, slots=True)
class Template:
    """How a dialogue becomes a prompt.

    A prompt is the id of `bos` where there is one; `opening`, where there is a system text (`system`, or the
    dialogue's own); for every user's turn `user`; for every answer of the history `past_lead`, `answer` and
    `after_answer`; and at its end `lead`, or the parts of an answer up to its text, where that goes on. Each
    video of a user's turn stands in the user's slot beside the text, as `video`, with `gap` between them. The
    end of `answer` is where the model stops. Training supervises `answer` alone.
    """

    system: str
    opening: Parts = (_SYSTEM, " ")
    user: Parts = ("USER: ", _USER, " ")
    video: Parts = (_VIDEO,)
    gap: str = "\n"
    is_video_first: bool = False
    lead: Parts = ("ASSISTANT:",)
    past_lead: Parts = ("ASSISTANT:",)
    answer: Parts = (" ", _ANSWER, _EOS)
    after_answer: Parts = ()
    bos: str | None = "<s>"
    eos: str = "</s>"

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """The text that ends an answer, where text does."""
        end = self._answer_end()
        return tuple(part for part in end[:1] if isinstance(part, str))

    @property
    def stop_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens that end an answer."""
        return tuple(part.name for part in self._answer_end()[:1] if isinstance(part, Special))

    @property
    def begun_answer(self) -> Parts:
        """An answer up to where it goes on."""
        return self.answer[: self.answer.index(_ANSWER) + 1]

    def specials(self) -> Iterator[str]:
        """Names of the special tokens among the parts."""
        walks = (
            self.opening,
            self.user,
            self.video,
            self.lead,
            self.past_lead,
            self.answer,
            self.after_answer,
        )
        return (part.name for walk in walks for part in walk if isinstance(part, Special))

    def turned(self) -> Self:
        """The same, with the video on the other side of the text."""
        return replace(self, is_video_first=not self.is_video_first)

    def _answer_end(self) -> Parts:
        return self.answer[self.answer.index(_ANSWER) + 1 :]


_FOLLOW = (
    "that the user provides, and assist the user with a variety of tasks using natural language.Follow the "
    "instructions carefully and explain your answers in detail"
)
_LLAVA = (
    "You are LLaVA, a large language and vision assistant trained by UW Madison WAIV Lab.You are able to "
    f"understand the visual content {_FOLLOW}."
)
_GIVE = (
    "Give the following {0}: <{1}>{2}Content</{1}>. You will be able to see the {0} once I provide it to "
    "you. Please answer my questions."
)
_HASHED = Template(  # turns end with ###, and so do answers
    "",
    opening=(_SYSTEM, "###"),
    user=("Human: ", _USER, "###"),
    lead=("Assistant:",),
    past_lead=("Assistant:",),
    answer=(" ", _ANSWER, "###"),
)
_START, _END = Special("<|im_start|>"), Special("<|im_end|>")
_HEAD, _BODY, _TURN = Special("<|start_header_id|>"), Special("<|end_header_id|>"), Special("<|eot_id|>")
OWN = "checkpoint"  # the template that stands beside the LLM's tokenizer


def _minigpt4(kind: str, tag: str, name: str) -> Template:
    video: Parts = (f"<{tag}>", _VIDEO, f"</{tag}>")
    style = replace(_HASHED, system=_GIVE.format(kind, tag, name), lead=("Assistant: ",))
    return replace(style, video=video, gap=" ", is_video_first=True)


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
    "llava_v0": replace(
        _HASHED, system=f"{_LLAVA}###Human: Hi!###Assistant: Hi there!  How can I help you today?\n"
    ),
    "llava_v1.5": Template(
        "A chat between a curious human and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the human's questions.",
        is_video_first=True,
    ),
    "minigpt4": _minigpt4("image", "Img", "Image"),
    "minigpt4_video": _minigpt4("video", "Video", "Video"),
    "chatml": Template(
        "You are a helpful assistant.",
        opening=(_START, "system\n", _SYSTEM, _END, "\n"),
        user=(_START, "user\n", _USER, _END, "\n"),
        is_video_first=True,
        lead=(_START, "assistant\n"),
        past_lead=(_START, "assistant\n"),
        answer=(_ANSWER, _END),
        after_answer=("\n",),
        bos=None,
        eos="<|im_end|>",
    ),
    "llama_3": Template(
        "",
        opening=(_HEAD, "system", _BODY, "\n\n", _SYSTEM, _TURN),
        user=(_HEAD, "user", _BODY, "\n\n", _USER, _TURN),
        is_video_first=True,
        lead=(_HEAD, "assistant", _BODY, "\n\n"),
        past_lead=(_HEAD, "assistant", _BODY, "\n\n"),
        answer=(_ANSWER, _TURN),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
    ),
    "plain": Template(""),
}


def check_template(name: str) -> None:
    """Raises UnknownNameError: no such template, and not the checkpoint's own."""
    if name != OWN:
        template(name)


def template(name: str) -> Template:
    """The template of that name.

    Raises:
        UnknownNameError: no such template.
    """
    if name not in TEMPLATES:
        raise UnknownNameError(
            f"template is {name!r}; allowed: {', '.join(TEMPLATES)}, or {OWN} where only answers are given",
            param="template",
        )
    return TEMPLATES[name]
