"""A disposable process that compiles one schema: `python -m bt_model.grammar.child`.

The library's limits do not bound the time that compiling takes, nor its memory: a `multipleOf` of seven
digits takes two minutes and 5 GB. What is compiled here within its limits is compiled again where it is used.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import msgpack
from llguidance import LLTokenizer

from bt_model.errors import EngineError, InvalidValueError
from bt_model.grammar.matching import allows_bound, matcher_of
from bt_model.grammar.place import all_parts, place_of
from bt_model.grammar.schema import SCHEMA_FIELD, refused
from bt_model.grammar.vocabulary import Vocabulary

CPU_SECONDS = 1  # the start of the process and its vocabulary take 0.2 of it
WALL_SECONDS = 20.0
MEMORY_BYTES = 2 << 30
NICENESS = 5  # as the pass of a clip through its tower has
_ROOT = Path(__file__).parents[2]  # where the package `bt_model` is
_COMMAND = ("-P", "-m", "bt_model.grammar.child")  # -P: nothing is imported from the working directory


def check_schema(vocabulary: Vocabulary, schema: str) -> None:
    """Compile a schema's text where it can hurt nobody.

    Raises:
        InvalidValueError: it is invalid, not supported or beyond a limit; `param` is where.
        EngineError: this machine is too busy to tell.
    """
    question = cast(bytes, msgpack.packb([vocabulary.tokens, vocabulary.ends, schema], use_bin_type=True))
    try:
        done = subprocess.run(
            [sys.executable, *_COMMAND],
            input=question,
            capture_output=True,
            timeout=WALL_SECONDS,
            cwd="/",
            env={"PYTHONPATH": str(_ROOT), "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
            check=False,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent
        )
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"{SCHEMA_FIELD} was not compiled in {WALL_SECONDS:g} seconds; try again", code="overloaded"
        ) from None
    if done.returncode:
        why = "second" if done.returncode == -signal.SIGXCPU else "memory"
        raise refused(f"takes more than the {why} that compiling may take; simpler ones are allowed")
    if done.stdout:
        message, param = msgpack.unpackb(done.stdout)
        raise InvalidValueError(message, param=param)


def main() -> None:
    """Read tokens, ends and schema. Answer with nothing, or with the words and place of what is wrong."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 1))
    with contextlib.suppress(ValueError, OSError):  # not every system bounds it
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    tokens, ends, schema = msgpack.unpackb(sys.stdin.buffer.read())
    tokenizer = Vocabulary(tuple(tokens), tuple(ends)).tokenizer()

    if (error := _refusal(json.loads(schema), tokenizer)) is not None:
        sys.stdout.buffer.write(cast(bytes, msgpack.packb([error.message, error.param])))


def _refusal(schema: dict[str, Any], tokenizer: LLTokenizer) -> InvalidValueError | None:
    """What is wrong with a schema, if anything is."""

    def complaint(text: str) -> str:
        try:
            matcher_of(tokenizer, text)
        except InvalidValueError as error:
            return error.message.removeprefix(f"{SCHEMA_FIELD} ")
        return ""

    if words := complaint(json.dumps(schema)):
        return refused(words, place_of(schema, complaint))
    for path, part in all_parts(schema):
        if allows_bound(tokenizer, part):
            words = "has an exclusive bound beside fractions, which would not hold; allowed: minimum, maximum"
            return refused(words, path)
    return None


if __name__ == "__main__":
    main()
