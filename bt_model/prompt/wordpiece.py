"""The Q-Former's tokenizer: BERT's, lower case, with `[DEC]` added."""

from pathlib import Path

from tokenizers import Tokenizer as Pipeline
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from bt_model.errors import CheckpointError
from bt_model.prompt.tokenizer import TextTokenizer, Tokenizer

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def open_wordpiece(folder: Path) -> Tokenizer:
    """The tokenizer of a folder: `tokenizer.json`, or the original BERT's `vocab.txt`.

    Raises:
        CheckpointError: neither is there, or it cannot be read.
    """
    if (folder / "tokenizer.json").is_file():
        return TextTokenizer(folder / "tokenizer.json")
    path = folder / "vocab.txt"
    if not path.is_file():
        raise CheckpointError(f"{folder}: neither tokenizer.json nor vocab.txt of the Q-Former is there")
    words = path.read_text(encoding="utf-8").splitlines()
    missing = [name for name in SPECIALS if name not in words]
    if missing:
        raise CheckpointError(f"{path}: lacks {', '.join(missing)} of a BERT vocabulary")
    pipeline = Pipeline(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    pipeline.normalizer = BertNormalizer(lowercase=True)
    pipeline.pre_tokenizer = BertPreTokenizer()
    pipeline.decoder = WordPieceDecoder()
    pipeline.add_special_tokens([*SPECIALS, "[DEC]"])
    return TextTokenizer(path, pipeline.to_str())
