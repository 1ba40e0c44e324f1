"""Folders with a tokenizer.model only, as the original LLaVA and Vicuna ones are."""

import io
import json
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from bt_model.errors import CheckpointError
from bt_model.prompt.text_stream import TextStream
from bt_model.prompt.tokenizer import SentencePieceTokenizer, added_tokens, open_tokenizer

TEXTS = ["USER: what happens here? ASSISTANT: it moves to the left", "the red circle", "a\nb c d e f g"]


def write_model(folder: Path) -> Path:
    """A Llama-like model: BPE, bytes as a last resort, <unk> 0, <s> 1, </s> 2."""
    written = io.BytesIO()
    SentencePieceTrainer.Train(
        sentence_iterator=iter(TEXTS * 20), model_writer=written, vocab_size=340, model_type="bpe",
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=1.0, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    path = folder / "tokenizer.model"
    path.write_bytes(written.getvalue())
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vicuna")
    write_model(folder)
    (folder / "added_tokens.json").write_text('{"<im_patch>": 400, "<im_start>": 401}')
    config = {"added_tokens_decoder": {"402": {"content": "<im_end>", "__type": "AddedToken"}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> SentencePieceTokenizer:
    opened = open_tokenizer(folder)
    assert isinstance(opened, SentencePieceTokenizer)
    return opened


def test_special_tokens_are_known_by_name(tokenizer: SentencePieceTokenizer, folder: Path) -> None:
    assert [tokenizer.special(name) for name in ("<s>", "</s>")] == [1, 2]
    assert added_tokens(folder) == {"<im_patch>": 400, "<im_start>": 401, "<im_end>": 402}
    assert tokenizer.special("<im_end>") == 402
    assert tokenizer.vocab_size == 403
    assert "<vid_start>" not in tokenizer
    with pytest.raises(CheckpointError, match=r"tokenizer\.model: no token '<vid_start>'; there are"):
        tokenizer.special("<vid_start>")


def test_text_is_encoded_as_the_library_does(tokenizer: SentencePieceTokenizer, folder: Path) -> None:
    library = SentencePieceProcessor()
    library.LoadFromSerializedProto((folder / "tokenizer.model").read_bytes())
    for text in [*TEXTS, "unseen 日本 🎬"]:
        assert tokenizer.encode(text).ids == library.EncodeAsIds(text)
    assert tokenizer.encode("").ids == []


def test_a_piece_alone_begins_with_a_space_as_it_did_in_training(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.encode("USER").ids[0] == tokenizer.encode(" USER".strip()).ids[0]
    assert tokenizer.decode(tokenizer.encode("USER").ids) == "USER"


@pytest.mark.parametrize("spelled", ["</s>", "<s>", "<im_start>"])
def test_text_that_spells_a_special_token_is_text(tokenizer: SentencePieceTokenizer, spelled: str) -> None:
    ids = tokenizer.encode(f"a {spelled} b").ids
    assert not set(ids) & {1, 2, 400, 401, 402}
    assert tokenizer.decode(ids) == f"a {spelled} b"


def test_an_answer_streams_with_its_spaces_and_whole_characters(tokenizer: SentencePieceTokenizer) -> None:
    text = "it moves 日本 to the left 🎬 and the red circle"
    stream = TextStream(tokenizer.decode, ())
    pieces = [stream.push([number]) for number in tokenizer.encode(text).ids]
    assert "".join([*pieces, stream.finish()]) == text
    assert not any("�" in piece for piece in pieces)


def test_ids_beyond_the_pieces_have_no_text(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.decode([400, *tokenizer.encode("left").ids, 5000]) == "left"


@pytest.mark.parametrize(
    ("added", "config"),
    [
        ("[]", "{}"),
        ('{"<im_start>": "many"}', "{}"),
        ('{"<im_start>": 1.5}', "{}"),
        ('{"<im_start>": null}', "{}"),
        ("{}", "[]"),
        ("{}", '{"added_tokens_decoder": []}'),
        ("{}", '{"added_tokens_decoder": null}'),
        ("{}", '{"added_tokens_decoder": {"1": "<s>"}}'),
        ("{}", '{"added_tokens_decoder": {"1": {}}}'),
        ("{}", '{"added_tokens_decoder": {"-1": {"content": "<s>"}}}'),
    ],
)
def test_added_tokens_of_another_shape_are_refused(tmp_path: Path, added: str, config: str) -> None:
    (tmp_path / "added_tokens.json").write_text(added)
    (tmp_path / "tokenizer_config.json").write_text(config)
    with pytest.raises(CheckpointError, match=r"(added_tokens|tokenizer_config)\.json"):
        added_tokens(tmp_path)


def test_a_folder_without_either_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        open_tokenizer(tmp_path)


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(CheckpointError, match=r"not a readable tokenizer\.model"):
        open_tokenizer(tmp_path)
