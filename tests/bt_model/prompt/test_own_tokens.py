"""What a checkpoint says of its own prompts, and how a template's tokens give way to it."""

import json
from pathlib import Path

import pytest

from bt_model.errors import CheckpointError
from bt_model.prompt.jinja_template import JinjaTemplate
from bt_model.prompt.own_tokens import OwnTokens
from bt_model.prompt.segments import SpecialIds, stop_ids
from bt_model.prompt.templates import template
from bt_model.prompt.tokenizer import TextTokenizer
from tests import tiny

MARKERS = ("<unk>", "<|begin|>", "<|end|>", "<|turn|>")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    path = tmp_path_factory.mktemp("own") / "tokenizer.json"
    tiny.train_tokenizer(tiny.TEXTS, 300, MARKERS, path, lower_case=False)
    return TextTokenizer(path)


def written(folder: Path, **files: object) -> Path:
    for name, values in files.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def test_names_ids_and_template_are_read(tmp_path: Path) -> None:
    assert OwnTokens.of(tmp_path) == OwnTokens()
    written(
        tmp_path,
        tokenizer_config={"bos_token": {"content": "<a>"}, "eos_token": "<b>", "chat_template": "x"},
        special_tokens_map={"eos_token": "<c>"},
        config={"eos_token_id": 5},
    )
    assert OwnTokens.of(tmp_path) == OwnTokens("<a>", "<b>", frozenset({5}), "x")
    written(tmp_path, generation_config={"eos_token_id": [7, 8]})
    (tmp_path / "chat_template.jinja").write_text("y")
    assert OwnTokens.of(tmp_path) == OwnTokens("<a>", "<b>", frozenset({7, 8}), "y")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}], "d"),
        ([{"name": "tool_use", "template": "t"}], None),
        ({"a": "b"}, None),
    ],
)
def test_of_several_templates_the_default_one_is_taken(
    tmp_path: Path, given: object, expected: str | None
) -> None:
    written(tmp_path, tokenizer_config={"chat_template": given, "eos_token": None})
    assert OwnTokens.of(tmp_path).chat_template == expected


def test_the_checkpoints_tokens_stand_in_for_those_that_its_tokenizer_lacks(
    tokenizer: TextTokenizer,
) -> None:
    begin, end, turn = (tokenizer.special(name) for name in MARKERS[1:])
    own = OwnTokens("<|begin|>", "<|end|>", frozenset({end, turn, 10**6, 200}))
    ids = SpecialIds.of(template("plain"), tokenizer, own)
    assert (ids.bos, ids.eos) == (begin, end)
    assert stop_ids(template("plain"), ids) == {end, turn}  # ids without a special token end nothing
    with pytest.raises(CheckpointError, match="no token '<s>'"):
        SpecialIds.of(template("plain"), tokenizer)


def test_a_chat_template_of_its_own_needs_a_token_that_ends_answers(tokenizer: TextTokenizer) -> None:
    style = JinjaTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {}, tokenizer.specials)
    turn = tokenizer.special("<|turn|>")
    assert SpecialIds.of(style, tokenizer, OwnTokens(None, None, frozenset({turn}))).eos == turn
    with pytest.raises(CheckpointError, match="names no token that ends an answer"):
        SpecialIds.of(style, tokenizer, OwnTokens("<|begin|>"))
