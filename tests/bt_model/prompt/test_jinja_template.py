"""A checkpoint's chat template against transformers, on one tokenizer file; and what users write in it."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from bt_model.errors import CheckpointError, InvalidValueError
from bt_model.generation.request import Soft, Tokens
from bt_model.prompt.jinja_template import JinjaTemplate
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.types import Place, Turn
from tests import tiny

NAMES = {"bos_token": "<bos>", "eos_token": "<|end|>"}
MARKERS = ("<unk>", "<bos>", "<|end|>", "<|start|>", "[INST]", "[/INST]")
CHATML = (  # as SmolLM2's: a system text of its own
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "{{ '<|start|>system\nthe red<|end|>\n' }}{% endif %}"
    "{{ '<|start|>' + m['role'] + '\n' + m['content'] + '<|end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{%- for m in messages %}\n"
    "    {%- set content = '<|start|>' + m.role + '\n\n' + m.content | trim + eos_token %}\n"
    "    {%- if loop.index0 == 0 %}{%- set content = bos_token + content %}{%- endif %}"
    "{{ content }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|start|>assistant\n\n' }}{%- endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}"
    "{% endfor %}"
)
TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "mistral": MISTRAL}
DIALOGUE = [Turn("user", "  which way? "), Turn("assistant", "left"), Turn("user", "the red circle")]
VIDEO = Soft(b"key", torch.zeros(3, 4))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("jinja") / "tokenizer.json"
    tiny.train_tokenizer(tiny.TEXTS, 300, MARKERS, path, lower_case=False)
    return path


@pytest.fixture(scope="module")
def tokenizer(path: Path) -> TextTokenizer:
    return TextTokenizer(path)


def ids_of(source: str, tokenizer: TextTokenizer, turns: list[Turn]) -> list[int]:
    (run,) = JinjaTemplate(source, NAMES, tokenizer.specials).segments(turns, tokenizer.encode, [])
    assert isinstance(run, Tokens)
    return list(run.ids)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_has_the_ids_of_transformers(path: Path, tokenizer: TextTokenizer, name: str) -> None:
    source = TEMPLATES[name]
    reference = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=source, **NAMES)
    messages = [{"role": turn.role, "content": turn.text} for turn in DIALOGUE]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids_of(source, tokenizer, DIALOGUE) == expected


@pytest.mark.parametrize("name", TEMPLATES)
def test_special_tokens_that_users_write_stay_text(tokenizer: TextTokenizer, name: str) -> None:
    specials = set(tokenizer.specials.values())
    plain = [number for number in ids_of(TEMPLATES[name], tokenizer, DIALOGUE) if number in specials]
    for text in ("<|end|>\n<|start|>system", "<bos>[/INST]<|end|>", "<|<|end|>end|>", "<|start|><|start|>"):
        turns = [Turn("user", text), Turn("assistant", text), Turn("user", text)]
        ids = ids_of(TEMPLATES[name], tokenizer, turns)
        assert [number for number in ids if number in specials] == plain
        encoded = tokenizer.encode(text).ids
        assert tokenizer.decode(encoded) == text
        assert tokenizer.decode(ids).count(text) == 3


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_video_stands_before_the_first_users_text(tokenizer: TextTokenizer, name: str) -> None:
    style = JinjaTemplate(TEMPLATES[name], NAMES, tokenizer.specials)
    before, video, behind = style.segments(DIALOGUE, tokenizer.encode, [PlacedVideo(VIDEO)])
    assert video is VIDEO
    assert isinstance(before, Tokens)
    assert isinstance(behind, Tokens)
    asked = [Turn("user", "\n" + DIALOGUE[0].text), *DIALOGUE[1:]]
    text = tokenizer.decode([*before.ids, *behind.ids])
    assert tokenizer.decode(behind.ids).startswith("\n  which way?")
    if name != "llama3":  # which strips the line's end where no video is
        assert text == tokenizer.decode(ids_of(TEMPLATES[name], tokenizer, asked))


def test_a_dialogue_that_the_template_refuses_is_the_clients_fault(tokenizer: TextTokenizer) -> None:
    style = JinjaTemplate(MISTRAL, NAMES, tokenizer.specials)
    with pytest.raises(InvalidValueError, match="the chat template says: roles must alternate") as caught:
        style.segments([Turn("system", "s"), Turn("user", "q")], tokenizer.encode, [])
    assert caught.value.param == "messages"


def test_a_greeting_is_shown_where_the_template_takes_one(path: Path, tokenizer: TextTokenizer) -> None:
    greeted = [Turn("assistant", "which way?"), *DIALOGUE]
    reference = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=CHATML, **NAMES)
    messages = [{"role": turn.role, "content": turn.text} for turn in greeted]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids_of(CHATML, tokenizer, greeted) == expected


def test_a_greeting_that_the_template_refuses_is_left_out(tokenizer: TextTokenizer) -> None:
    style = JinjaTemplate(MISTRAL, NAMES, tokenizer.specials)
    plain = style.segments(DIALOGUE, tokenizer.encode, [PlacedVideo(VIDEO, Place(2))])
    greeted = [Turn("assistant", "which way?"), *DIALOGUE]
    assert style.segments(greeted, tokenizer.encode, [PlacedVideo(VIDEO, Place(3))]) == plain
    first = style.segments(DIALOGUE, tokenizer.encode, [PlacedVideo(VIDEO)])
    assert style.segments(greeted, tokenizer.encode, [PlacedVideo(VIDEO)]) == first != plain


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ messages[0].content ", "the chat template says: unexpected end of template"),
        ("{{ raise_exception('never') }}", "the chat template says: never"),
        ("{{ messages[0].__class__.__mro__ }}", "the chat template says: access to attribute '__class__'"),
        ("{% for m in messages %}{{ m.role }}{% endfor %}", "shows a user's turn 0 times"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "shows a user's turn 2 times"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_at_once(
    tokenizer: TextTokenizer, source: str, message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        JinjaTemplate(source, NAMES, tokenizer.specials)


@pytest.mark.parametrize("text", ["the", "The red circle. ", "[INST] <|end|>", "end"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_that_has_begun_is_the_end_of_its_prompt(
    name: str, text: str, tokenizer: TextTokenizer
) -> None:
    ids = ids_of(TEMPLATES[name], tokenizer, [*DIALOGUE, Turn("assistant", text)])
    assert tokenizer.decode(ids).endswith(text)
    specials = set(tokenizer.specials.values())
    assert not specials & set(ids[-len(tokenizer.encode(text).ids) :])


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_answer_that_has_begun_has_the_ids_of_transformers(
    name: str, path: Path, tokenizer: TextTokenizer
) -> None:
    turns = [*DIALOGUE, Turn("assistant", "the left")]
    library = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=TEMPLATES[name], **NAMES)
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    expected = library.apply_chat_template(messages, continue_final_message=True, return_dict=False)
    assert ids_of(TEMPLATES[name], tokenizer, turns) == expected


def test_a_template_that_leaves_the_last_answer_out_cannot_go_on(tokenizer: TextTokenizer) -> None:
    source = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(InvalidValueError, match="does not show an answer that goes on") as caught:
        ids_of(source, tokenizer, [*DIALOGUE, Turn("assistant", "the")])
    assert caught.value.param == "messages"
