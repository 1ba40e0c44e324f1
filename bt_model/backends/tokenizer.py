"""A language model's tokenizer in which outside text can never become a special token."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bt_model.errors import CheckpointError


class TextTokenizer:
    """A `tokenizer.json` with its added tokens taken out: they are known by name, not by spelling."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            spec: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            self._special: dict[str, int] = {t["content"]: t["id"] for t in spec.get("added_tokens", [])}
            spec["added_tokens"] = []
            spec["post_processor"] = None  # would add BOS and EOS by itself
            self._tokenizer = Tokenizer.from_str(json.dumps(spec))
        except Exception as error:  # the tokenizers library raises nothing narrower
            why = type(error).__name__
            raise CheckpointError(f"{path}: not a readable tokenizer.json ({why})") from error

    @property
    def vocab_size(self) -> int:
        """One more than the largest id, special ones included."""
        return max(self._tokenizer.get_vocab_size(), 1 + max(self._special.values(), default=-1))

    def __contains__(self, name: str) -> bool:
        return name in self._special

    def special(self, name: str) -> int:
        """The id of a special token.

        Raises:
            CheckpointError: the tokenizer has no such token.
        """
        if name not in self._special:
            raise CheckpointError(f"{self._path}: no token {name!r}; there are {', '.join(self._special)}")
        return self._special[name]

    def encode(self, text: str) -> list[int]:
        """Plain text to ids, without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids if text else []

    def decode(self, ids: Sequence[int]) -> str:
        """Ids to text; ends in U+FFFD where a character is not complete yet."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)
