"""Where videos stand in prompts: each in its turn, and several of a turn between its lines."""

from collections.abc import Sequence

import pytest
import torch

from bt_model.errors import InvalidValueError
from bt_model.generation.request import Segment, Soft
from bt_model.prompt.jinja_template import JinjaTemplate
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.segments import SpecialIds, segments
from bt_model.prompt.templates import TEMPLATES, template
from bt_model.types import Place, Turn
from tests.bt_model.prompt.test_answered import IDS, NAMED, characters

A, B, C = (Soft(name.encode(), torch.zeros(2, 4)) for name in "ABC")
NAMES = {number: name for name, number in NAMED.items()} | {IDS.bos: "<s>", IDS.eos: "</s>"}
DIALOGUE = [
    Turn("system", "Be brief."),
    Turn("user", "First:\nSecond:\nwhich?"),
    Turn("assistant", "a1"),
    Turn("user", "and the end?"),
]
IN_TURNS = [PlacedVideo(A, Place(1)), PlacedVideo(B, Place(3, 12))]
IN_LINES = [PlacedVideo(A, Place(1, 7)), PlacedVideo(B, Place(1, 15)), PlacedVideo(C, Place(3))]
SPELLED = {
    "llava_v1.5": ("USER: {0} ASSISTANT: a1</s>USER: {1} ASSISTANT:", "<{}>\n{}"),
    "minigpt4": ("###Human: {0}###Assistant: a1###Human: {1}###Assistant: ", "<Img><{}></Img> {}"),
    "minigpt4_video": ("###Human: {0}###Assistant: a1###Human: {1}###Assistant: ", "<Video><{}></Video> {}"),
    "chatml": (
        "<|im_start|>user\n{0}<|im_end|>\n<|im_start|>assistant\na1<|im_end|>\n"
        "<|im_start|>user\n{1}<|im_end|>\n<|im_start|>assistant\n",
        "<{}>\n{}",
    ),
}


def spelled(prompt: Sequence[Segment]) -> str:
    """A prompt as text, special ids by name and each video as its letter in brackets."""
    return "".join(
        f"<{part.key.decode()}>"
        if isinstance(part, Soft)
        else "".join(NAMES.get(i) or chr(i) for i in part.ids)
        for part in prompt
    )


def prompt(name: str, videos: Sequence[PlacedVideo], turns: Sequence[Turn] = DIALOGUE) -> str:
    ids = SpecialIds(IDS.bos if template(name).bos else None, IDS.eos, named=NAMED)
    return spelled(segments(turns, template(name), ids, characters, videos))


@pytest.mark.parametrize("name", SPELLED)
def test_each_turn_has_its_video_as_the_first_has(name: str) -> None:
    dialogue, one = SPELLED[name]
    first, second = one.format("A", DIALOGUE[1].text), one.format("B", DIALOGUE[3].text)
    assert prompt(name, IN_TURNS).endswith(dialogue.format(first, second))


@pytest.mark.parametrize("name", SPELLED)
def test_several_videos_of_a_turn_stand_where_they_were_given(name: str) -> None:
    dialogue, one = SPELLED[name]
    gap = template(name).gap
    first = gap.join(["First:", one.format("A", "Second:"), one.format("B", "which?")])
    assert prompt(name, IN_LINES).endswith(dialogue.format(first, one.format("C", DIALOGUE[3].text)))


def test_where_the_text_comes_first_several_stand_in_their_order_too() -> None:
    asked = prompt("vicuna_v1_1", IN_LINES)
    assert "USER: First:\n<A>\nSecond:\n<B>\nwhich? ASSISTANT:" in asked
    assert "USER: and the end?\n<C> ASSISTANT:" in asked


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_of_before_is_the_beginning_of_one_with_another_video(name: str) -> None:
    before = prompt(name, IN_LINES[:2], DIALOGUE[:2])
    if not name.startswith("minigpt4"):  # whose space before an answer is the answer's in its history
        assert prompt(name, IN_LINES).startswith(before)
    assert prompt(name, IN_LINES).startswith(before.rstrip())


@pytest.mark.parametrize("name", TEMPLATES)
def test_without_a_place_a_video_is_the_first_users(name: str) -> None:
    assert prompt(name, [PlacedVideo(A)]) == prompt(name, [PlacedVideo(A, Place(1, 5))])


@pytest.mark.parametrize(("at", "expected"), [(0, "<A>\n<B>\na\n\nb"), (4, "a\n\nb\n<A>\n<B>")])
def test_videos_side_by_side_have_no_empty_line_between_them(at: int, expected: str) -> None:
    videos = [PlacedVideo(A, Place(0, at)), PlacedVideo(B, Place(0, at))]
    assert f"USER: {expected} ASSISTANT:" in prompt("vicuna_v1_1", videos, [Turn("user", "a\n\nb")])


@pytest.mark.parametrize("name", SPELLED)
def test_a_turn_may_be_a_video_alone(name: str) -> None:
    one = SPELLED[name][1].format("A", "")
    alone = one.removesuffix(template(name).gap)
    turns = [Turn("user", ""), Turn("assistant", "a1"), Turn("user", "q2")]
    assert SPELLED[name][0].format(alone, "q2").removeprefix("###") in prompt(name, [PlacedVideo(A)], turns)


OWN = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"


def own_prompt(source: str, videos: Sequence[PlacedVideo]) -> str:
    return spelled(JinjaTemplate(source, {}, {}).segments(DIALOGUE, characters, videos))


def test_a_checkpoints_own_template_has_each_video_in_its_turn() -> None:
    assert own_prompt(OWN, IN_TURNS) == (
        "[system]Be brief.[user]<A>\nFirst:\nSecond:\nwhich?[assistant]a1[user]<B>\nand the end?"
    )
    assert own_prompt(OWN, IN_LINES) == (
        "[system]Be brief.[user]First:\n<A>\nSecond:\n<B>\nwhich?[assistant]a1[user]<C>\nand the end?"
    )


def test_a_template_that_leaves_a_turn_out_cannot_show_its_video() -> None:
    first_only = "{% for m in messages[:2] %}{{ m.content }}{% endfor %}"
    assert own_prompt(first_only, IN_TURNS[:1]).endswith("<A>\nFirst:\nSecond:\nwhich?")
    with pytest.raises(InvalidValueError, match="shows a user's turn 0 times, and a video once") as caught:
        own_prompt(first_only, IN_TURNS)
    assert caught.value.param == "messages"
