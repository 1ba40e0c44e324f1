"""Prompts in the published formats: ids are characters here, so a prompt can be read back."""

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bt_model.errors import InvalidValueError, UnknownNameError
from bt_model.generation.request import Segment, Soft
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.segments import SpecialIds, segments
from bt_model.prompt.templates import TEMPLATES, template
from bt_model.prompt.tokenizer import Encoding
from bt_model.prompt.turns import check_turns
from bt_model.types import Role, Turn

SPECIALS = sorted(
    {name for style in TEMPLATES.values() for name in (*style.specials(), style.eos)} - {"</s>"}
)
NAMED = {name: 0x110005 + number for number, name in enumerate(SPECIALS)}
PAGE = Path(__file__).parents[3] / "weights" / "README.md"
SPELLED = Path(__file__).parent / "spelled.toml"  # every template, spelled out
IDS = SpecialIds(bos=0x110001, eos=0x110002, video_start=0x110003, video_end=0x110004, named=NAMED)
NAMES = {number: name for name, number in NAMED.items()} | {
    IDS.bos: "<s>",
    IDS.eos: "</s>",
    IDS.video_start: "<vid_start>",
    IDS.video_end: "<vid_end>",
}
VIDEO = Soft(b"key", torch.zeros(3, 4))
SYSTEMS = {
    "video-chatgpt_v1": (
        "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the video "
        "content that the user provides, and assist the user with a variety of tasks using natural "
        "language.Follow the instructions carefully and explain your answers in detail based on the "
        "provided video."
    ),
    "vicuna_v1_1": (
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions."
    ),
    "llava_v1": (
        "You are LLaVA, a large language and vision assistant trained by UW Madison WAIV Lab.You are able "
        "to understand the visual content that the user provides, and assist the user with a variety of "
        "tasks using natural language.Follow the instructions carefully and explain your answers in detail."
    ),
}
MARKED = "<vid_start><video><vid_end>"


def characters(text: str) -> Encoding:
    return Encoding([ord(c) for c in text], list(range(len(text))))


def spelled(prompt: tuple[Segment, ...]) -> str:
    """A prompt as text, special ids by name and the video as <video>."""
    runs = [
        "<video>" if isinstance(part, Soft) else "".join(NAMES.get(i) or chr(i) for i in part.ids)
        for part in prompt
    ]
    return "".join(runs)


def prompt(name: str, *messages: tuple[Role, str], video: Soft | None = VIDEO) -> str:
    style = template(name)
    ids = replace(IDS, bos=IDS.bos if style.bos else None)
    return spelled(
        segments(
            [Turn(*message) for message in messages],
            style,
            ids,
            characters,
            [] if video is None else [PlacedVideo(video)],
        )
    )


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_turn_is_spelled_as_published(name: str) -> None:
    expected = f"<s>{SYSTEMS[name]} USER: What happens?\n{MARKED} ASSISTANT:"
    assert prompt(name, ("user", "What happens?")) == expected


@pytest.mark.parametrize("name", SYSTEMS)
def test_several_turns_are_spelled_as_published(name: str) -> None:
    dialogue: list[tuple[Role, str]] = [
        ("user", "q1"),
        ("assistant", "a1"),
        ("user", "q2"),
        ("assistant", "a2"),
        ("user", "q3"),
    ]
    spoken = f"USER: q1\n{MARKED} ASSISTANT: a1</s>USER: q2 ASSISTANT: a2</s>USER: q3 ASSISTANT:"
    expected = f"<s>{SYSTEMS[name]} {spoken}"
    assert prompt(name, *dialogue) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_is_spelled_as_written_down(name: str) -> None:
    assert tomllib.loads(SPELLED.read_text(encoding="utf-8")).get(name) == as_served(name)


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_that_has_begun_is_the_end_of_its_prompt(name: str) -> None:
    begun = tomllib.loads(SPELLED.read_text(encoding="utf-8"))["begun"][name]
    before = as_served(name).rpartition("q2")[0]
    assert as_served(name, Turn("assistant", "a2")) == f"{before}q2{begun}"


def as_served(name: str, *more: Turn) -> str:
    """A system text, a question with a video, its answer and another question, as the model gets them."""
    style = template(name)
    ids = replace(IDS, bos=IDS.bos if style.bos else None)
    if style.is_video_first:
        ids = replace(ids, video_start=None, video_end=None)
    turns = [Turn("user", "q1"), Turn("assistant", "a1"), Turn("user", "q2"), *more]
    if not style.system:
        turns.insert(0, Turn("system", "s"))
    return spelled(segments(turns, style, ids, characters, [PlacedVideo(VIDEO)]))


def test_the_weights_page_names_every_template() -> None:
    (row,) = [
        line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `template`")
    ]
    assert [name for name in TEMPLATES if f"`{name}`" not in row] == []


def test_a_dialogue_without_a_video_has_no_markers() -> None:
    expected = f"<s>{SYSTEMS['vicuna_v1_1']} USER: q1 ASSISTANT: a1</s>USER: q2 ASSISTANT:"
    assert prompt("vicuna_v1_1", ("user", "q1"), ("assistant", "a1"), ("user", "q2"), video=None) == expected


def test_a_greeting_is_an_answer_before_the_first_question() -> None:
    text = prompt("vicuna_v1_1", ("assistant", "Hello!"), ("user", "why?"))
    system = SYSTEMS["vicuna_v1_1"]
    assert text == f"<s>{system} ASSISTANT: Hello!</s>USER: why?\n{MARKED} ASSISTANT:"


def test_a_dialogues_own_system_turn_replaces_the_templates() -> None:
    expected = f"<s>Be brief. USER: q1\n{MARKED} ASSISTANT:"
    assert prompt("video-chatgpt_v1", ("system", "Be brief."), ("user", "q1")) == expected


def test_the_plain_template_begins_with_the_user() -> None:
    assert prompt("plain", ("user", "q1")) == f"<s>USER: q1\n{MARKED} ASSISTANT:"


@pytest.mark.parametrize("name", [name for name in TEMPLATES if template(name).bos])
def test_the_only_bos_is_the_first_id(name: str) -> None:
    text = prompt(name, ("user", "q1"), ("assistant", "a1"), ("user", "q2"))
    assert text.startswith("<s>")
    assert text.count("<s>") == 1


def test_a_template_without_bos_begins_with_its_own_parts() -> None:
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        f"<|im_start|>user\n{MARKED}\nq1<|im_end|>\n"
        "<|im_start|>assistant\na1<|im_end|>\n"
        "<|im_start|>user\nq2<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    turns: list[tuple[Role, str]] = [
        ("system", "Be brief."), ("user", "q1"), ("assistant", "a1"), ("user", "q2")
    ]  # fmt: skip
    assert prompt("chatml", *turns) == expected


def test_an_unknown_template_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(
        UnknownNameError, match="template is 'v9'; allowed: video-chatgpt_v1, vicuna_v1_1"
    ) as caught:
        template("v9")
    assert caught.value.param == "template"


@pytest.mark.parametrize(
    "roles",
    [
        [],
        ["system"],
        ["assistant"],
        ["user", "user"],
        ["user", "system", "user"],
        ["system", "system", "user"],
        ["user", "assistant", "assistant", "user"],
        ["system", "assistant"],
    ],
)
def test_turns_out_of_order_are_refused(roles: list[Role]) -> None:
    with pytest.raises(InvalidValueError, match="messages have the roles") as caught:
        check_turns([Turn(role, "text") for role in roles])
    assert caught.value.param == "messages"


@pytest.mark.parametrize("text", ["", " ", "\n\t "])
def test_a_turn_without_text_is_refused_by_its_place(text: str) -> None:
    with pytest.raises(InvalidValueError, match="content is empty") as caught:
        check_turns([Turn("user", "q"), Turn("assistant", text), Turn("user", "q")])
    assert caught.value.param == "messages[1].content"


@pytest.mark.parametrize("name", TEMPLATES)
def test_where_a_turn_ends_with_text_that_text_stops_an_answer(name: str) -> None:
    stops = ("###",) if "###" in prompt(name, ("user", "q")) else ()
    assert template(name).stop_strings == stops
