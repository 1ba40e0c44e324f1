"""A schema as the library's matcher, within limits, and what one answer may go on with. V vocabulary."""

import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from bt_model.grammar.schema import refused

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions
    from numpy.typing import NDArray

# With these a token's mask takes 5 ms in the worst schemas that were found, and 0.05 ms in usual ones.
_LIMITS = LLParserLimits(
    max_grammar_size=5_000,
    max_items_in_row=2_000,
    initial_lexer_fuel=1_000_000,
    step_lexer_fuel=200_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    verbose_errors=False,
)
_COMPACT: "JsonCompileOptions" = {  # at most one space: some models would write blanks for ever
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
    "coerce_one_of": False,
    "lenient": False,
}
_EXCLUSIVE = ("exclusiveMinimum", "exclusiveMaximum")
_BOUNDS = ("minimum", "maximum", *_EXCLUSIVE)
_TOO_MANY = "allows too many alternatives at one place"
_TOO_COMPLEX = "is too complex: its patterns, lengths, bounds and multiples together"
_PLAIN = (  # what the library says, and what that means
    ("grammar size", "is too large: fewer properties and alternatives are allowed"),
    ("regex parse error", "has a pattern that is not supported"),
    (" items", _TOO_MANY),
    ("fuel", _TOO_COMPLEX),
    ("lexer", _TOO_COMPLEX),
    ("NoExtension", "allows no JSON text"),
)
# CPU time of an answer's masks: of each token, and once more for all, so that no neighbour waits for long
_SECONDS_PER_TOKEN, _SECONDS = 0.002, 0.25


class GrammarRun:
    """One answer under a grammar; `fault` says why it cannot go on. For one thread at a time."""

    def __init__(self, matcher: LLMatcher, size: int) -> None:
        self._matcher = matcher
        self._size = size
        self._seconds = _SECONDS
        self.fault = ""

    @property
    def is_complete(self) -> bool:
        """Whether nothing but an end can follow."""
        return not self.fault and self._matcher.is_stopped()

    def allowed(self) -> "NDArray[np.bool_]":
        """(V,), true where an id may come next: none where there is a fault."""
        begun = time.thread_time()
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._seconds += _SECONDS_PER_TOKEN - (time.thread_time() - begun)
        self._look()
        if self.fault:
            return np.zeros(self._size, np.bool_)
        return np.unpackbits(mask, count=self._size, bitorder="little").view(np.bool_)

    def accept(self, token: int) -> None:
        """Go on behind one id that was allowed."""
        self._matcher.consume_token(token)
        self._look()

    def _look(self) -> None:
        if self._matcher.is_error():
            self.fault = _plain(self._matcher.get_error())
        elif self._seconds < 0:
            self.fault = _TOO_COMPLEX


def matcher_of(tokenizer: LLTokenizer, schema: str) -> LLMatcher:
    """The matcher of a schema's text before its first token; that of an answer is a copy.

    Raises:
        InvalidValueError: the schema is invalid, not supported or beyond the limits.
    """
    try:
        grammar = LLMatcher.grammar_from_json_schema(schema, overrides=_COMPACT)
    except ValueError as error:
        raise refused(f"is no JSON schema: {error}") from None
    matcher = LLMatcher(tokenizer, grammar, limits=_LIMITS, log_level=0)
    first = GrammarRun(matcher.deep_copy(), tokenizer.vocab_size)
    first.allowed()  # the dearest mask of many schemas
    if first.fault:
        raise refused(first.fault)
    return matcher


def allows_bound(tokenizer: LLTokenizer, part: dict[str, Any]) -> bool:
    """Whether a number is allowed that one of a part's exclusive bounds forbids.

    Beside fractions the library is not exact: above 0 and up to 0.5 it allows 0.
    """
    bounds = {key: part[key] for key in _BOUNDS if isinstance(part.get(key), int | float)}
    excluded = {bounds[key] for key in _EXCLUSIVE if key in bounds}
    if not excluded or part.get("type") == "integer":
        return False
    matcher = matcher_of(tokenizer, json.dumps({"type": "number", **bounds}))
    texts = {json.dumps(int(each) if each == int(each) else each) for each in excluded}
    return any(_accepts(matcher.deep_copy(), tokenizer, text) for text in {*texts, *(f"-{t}" for t in texts)})


def _accepts(matcher: LLMatcher, tokenizer: LLTokenizer, text: str) -> bool:
    ids = tokenizer.greedy_tokenize(text)
    return matcher.validate_tokens([*ids, tokenizer.eos_token]) == len(ids) + 1


def _plain(message: str) -> str:
    """What the library says, in words for a client."""
    lines = message.partition("\n<")[0].strip().splitlines()
    words = next((words for sign, words in _PLAIN if sign in lines[0]), f"is not supported: {lines[0]}")
    reasons = [line for line in lines if line.startswith("error: ")]  # of a pattern, which is shown above it
    return f"{words}: {reasons[0].removeprefix('error: ')}" if reasons else words
