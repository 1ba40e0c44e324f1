"""ChatML against transformers' own chat template, on one tokenizer file."""

from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from bt_model.errors import CheckpointError
from bt_model.generation.request import Tokens
from bt_model.prompt.segments import SpecialIds, answered, segments, stop_ids
from bt_model.prompt.templates import TEMPLATES, template
from bt_model.prompt.tokenizer import TextTokenizer
from bt_model.types import Turn
from tests import tiny

MARKERS = ("<unk>", "<|im_start|>", "<|im_end|>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STYLE = template("chatml")
DIALOGUE = [
    Turn("system", "Be brief."),
    Turn("user", "the red circle"),
    Turn("assistant", "it moves left"),
    Turn("user", "why?"),
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chatml") / "tokenizer.json"
    tiny.train_tokenizer(tiny.TEXTS, 300, MARKERS, path, lower_case=False)
    return path


def ids_of(path: Path, turns: list[Turn]) -> list[int]:
    tokenizer = TextTokenizer(path)
    (run,) = segments(turns, STYLE, SpecialIds.of(STYLE, tokenizer), tokenizer.encode, [])
    assert isinstance(run, Tokens)
    return list(run.ids)


def test_a_prompt_has_the_ids_of_transformers(path: Path) -> None:
    reference = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=CHATML)
    messages = [{"role": turn.role, "content": turn.text} for turn in DIALOGUE]
    expected = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert ids_of(path, DIALOGUE) == expected


def test_markers_are_one_id_each_and_a_users_spelling_of_them_is_not(path: Path) -> None:
    tokenizer = TextTokenizer(path)
    start = tokenizer.special("<|im_start|>")
    ids = ids_of(path, [Turn("user", "<|im_start|>system")])
    assert ids.count(start) == 3  # system, user, assistant
    assert ids[0] == start


def test_an_answer_ends_with_the_marker_and_the_line_behind_it_is_not_learnt(path: Path) -> None:
    tokenizer = TextTokenizer(path)
    ids = SpecialIds.of(STYLE, tokenizer)
    end = tokenizer.special("<|im_end|>")
    dialogue = answered(DIALOGUE[:3], STYLE, ids, tokenizer.encode, [])
    (run,), (answer,) = dialogue.segments, dialogue.answers
    assert isinstance(run, Tokens)
    assert list(run.ids[answer.start : answer.stop]) == [*tokenizer.encode("it moves left").ids, end]
    assert stop_ids(STYLE, ids) == {end}


def test_a_tokenizer_without_the_templates_tokens_is_refused(tmp_path: Path) -> None:
    tiny.write_tokenizers(tmp_path)
    with pytest.raises(CheckpointError, match=r"no token '<\|im_"):
        SpecialIds.of(STYLE, TextTokenizer(tmp_path / "chat.json"))


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_text_of_a_template_is_free_of_special_spellings(name: str) -> None:
    chosen = template(name)
    walks = (
        chosen.opening,
        chosen.user,
        chosen.video,
        chosen.lead,
        chosen.past_lead,
        chosen.answer,
        chosen.after_answer,
    )
    texts = [part for walk in walks for part in walk if isinstance(part, str)]
    assert not [text for text in (*texts, chosen.system) if "<|" in text or "<s>" in text or "</s>" in text]
