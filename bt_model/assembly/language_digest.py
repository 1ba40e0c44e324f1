"""A digest of what a model makes an answer of, once it has a video's tokens."""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

from bt_model.assembly.model_file import ModelFile
from bt_model.backends.base import BackendFiles

_SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".txt")  # weights, settings, tokenizers, templates


def language_digest(model: ModelFile, files: BackendFiles) -> str:
    """SHA-256 of LLM, projector, Q-Former, tokenizer and settings in hex, whatever folders they are in.

    Every byte is read, in several threads: right after loading it is in memory anyway.
    """
    named = sorted(_files(files))
    with ThreadPoolExecutor() as threads:
        digests = list(threads.map(_digest, (path for _, path in named)))
    settings = {
        "backend": model.backend,
        "entry": model.entry,
        "pooling": model.pooling,
        "fit": model.fit,
        "template": model.template,
        "defaults": asdict(model.defaults),
        "dtype": str(files.dtype),
        "quantise": files.quantise,
    }
    known = [settings, *zip((name for name, _ in named), digests, strict=True)]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _files(files: BackendFiles) -> Iterator[tuple[str, Path]]:
    """Each part's files by name; a folder may hold several parts."""
    parts = {"llm": files.llm, "projector": files.projector, "qformer": files.qformer}
    paths = {name: part.path for name, part in parts.items() if part is not None}
    if files.lora is not None:
        paths["lora"] = files.lora
    for name, path in paths.items():
        if path.is_file():
            yield name, path
            continue
        for file in path.rglob("*"):
            if file.is_file() and file.suffix in _SUFFIXES:
                yield f"{name}/{file.relative_to(path).as_posix()}", file


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
