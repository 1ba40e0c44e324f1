"""Single tokens as texts and bytes: all together they are the text."""

from pathlib import Path

import pytest
from tokenizers.pre_tokenizers import ByteLevel

from bt_model.prompt.token_text import bytes_of_piece
from bt_model.prompt.tokenizer import SentencePieceTokenizer, TextTokenizer, Tokenizer
from bt_model.types import TokenText
from tests.bt_model.prompt.test_sentencepiece import write_model
from tests.bt_model.prompt.test_token_bound import EMBEDDED, LLAMA_NORMALIZER, RUNS, write_llama_like

TEXT = "the red circle, 日本 🎬!"


@pytest.fixture(params=["bytes", "llama", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    if request.param == "bytes":
        return TextTokenizer(EMBEDDED / "llava_video" / "tokenizer.json")
    if request.param == "llama":
        return TextTokenizer(write_llama_like(tmp_path, RUNS["llama"], LLAMA_NORMALIZER))
    return SentencePieceTokenizer(write_model(tmp_path), {"<im_start>": 400})


def test_the_bytes_of_all_tokens_are_the_text(tokenizer: Tokenizer) -> None:
    tokens = [tokenizer.token(number) for number in tokenizer.encode(TEXT).ids]
    data = b"".join(token.data or b"" for token in tokens)
    assert data.decode().removeprefix(" ") == TEXT
    assert "bytes:\\xf0" in {token.text for token in tokens}


def test_every_byte_has_a_character_in_a_byte_level_vocabulary() -> None:
    read = {bytes_of_piece(character, is_byte_level=True) for character in ByteLevel.alphabet()}
    assert read == {bytes([byte]) for byte in range(256)}


def test_a_special_token_has_a_name_and_no_bytes(tmp_path: Path) -> None:
    tokenizer = SentencePieceTokenizer(write_model(tmp_path), {"<im_start>": 400})
    assert tokenizer.token(400) == TokenText("<im_start>", None)
    assert tokenizer.token(2) == TokenText("</s>", None)
    assert tokenizer.token(399) == TokenText("", b"")  # a number without a token
