"""What an LLM's folder says of its own prompts: where they begin, what ends an answer, and its chat template.

Tokens are taken by name: the ids of published config.json files are wrong (docs/published-models.md). Ids are
read only of what ends an answer, and only if the tokenizer has special tokens there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

from bt_model.checkpoints.json_files import read_json
from bt_model.errors import CheckpointError

_MAPS = ("special_tokens_map.json", "tokenizer_config.json")  # the later one decides
_TEMPLATE = "chat_template.jinja"


@dataclass(frozen=True, slots=True)
class OwnTokens:
    """Names of special tokens, ids that end an answer, and a Jinja template; each may be absent."""

    bos: str | None = None
    eos: str | None = None
    stop_ids: frozenset[int] = frozenset()
    chat_template: str | None = None

    @classmethod
    def of(cls, folder: Path, config: Mapping[str, Any] | None = None) -> Self:
        """From a checkpoint's folder; `config` is its config.json, where that has been read.

        Raises:
            CheckpointError: a file that cannot be read.
        """
        said: dict[str, Any] = {}
        for name in _MAPS:
            said |= _read(folder / name)
        bos, eos = (_name(said.get(field)) for field in ("bos_token", "eos_token"))
        return cls(bos, eos, _stop_ids(folder, config), _template(folder, said))


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _name(token: object) -> str | None:
    """A token's text, given as such or inside an object."""
    if isinstance(token, dict):
        token = cast(Mapping[str, object], token).get("content")
    return token if isinstance(token, str) and token else None


def _stop_ids(folder: Path, config: Mapping[str, Any] | None) -> frozenset[int]:
    """Those of the first file that names any."""
    generation = _read(folder / "generation_config.json")
    for said in (generation, _read(folder / "config.json") if config is None else config):
        ids = said.get("eos_token_id")
        ids = ids if isinstance(ids, list) else [ids]
        if found := frozenset(number for number in cast(list[object], ids) if type(number) is int):
            return found
    return frozenset()


def _template(folder: Path, said: Mapping[str, Any]) -> str | None:
    path = folder / _TEMPLATE
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: not a readable text file ({type(error).__name__})") from error
    given = said.get("chat_template")
    if isinstance(given, list):  # several by name
        named = {each.get("name"): each.get("template") for each in given if isinstance(each, dict)}
        given = named.get("default")
    return given if isinstance(given, str) else None
