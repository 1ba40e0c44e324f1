"""The schemas that the answers of one model follow: each compiled once, and kept for the next answer."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llguidance import LLMatcher

from bt_model.errors import InvalidValueError
from bt_model.grammar.child import check_schema
from bt_model.grammar.matching import GrammarRun, matcher_of
from bt_model.grammar.schema import ANY_OBJECT
from bt_model.grammar.vocabulary import Vocabulary

MOST_KEPT = 64


@dataclass(frozen=True, slots=True)
class Grammar:
    """A compiled schema."""

    matcher: LLMatcher
    size: int

    def begin(self) -> GrammarRun:
        """Of one answer."""
        return GrammarRun(self.matcher.deep_copy(), self.size)


class Grammars:
    """Compiles for one vocabulary, which `vocabulary` tells when the first schema comes.

    `get` takes up to some seconds and belongs to one thread; `known` and `forget` may be called from any.
    """

    def __init__(
        self, vocabulary: Callable[[], Vocabulary], encode: Callable[[str], Sequence[int]] | None = None
    ) -> None:
        self._vocabulary_of = vocabulary
        self._encode = encode
        self._made: OrderedDict[str, Grammar | InvalidValueError] = OrderedDict()  # the oldest first
        self._vocabulary: Vocabulary | None = None

    def known(self, schema: str) -> Grammar | None:
        """What has been compiled of a schema's text; raises if it was refused."""
        made = self._made.get(schema)
        if isinstance(made, InvalidValueError):
            raise InvalidValueError(made.message, code=made.code, param=made.param)
        return made

    def get(self, schema: str) -> Grammar:
        """Compiled now, if need be.

        Raises:
            InvalidValueError: invalid, not supported, beyond a limit, or not to be said in this vocabulary.
            EngineError: this machine is too busy to tell.
        """
        if (known := self.known(schema)) is None:
            try:
                known = self._made[schema] = self._compiled(schema)
            except InvalidValueError as error:
                self._made[schema] = error.with_traceback(None)
                raise
            finally:
                while len(self._made) > MOST_KEPT:
                    self._made.popitem(last=False)
        return known

    def forget(self, schema: str) -> None:
        """After a fault: answers of one schema share a lexer, whose limits hold for all of them together."""
        self._made.pop(schema, None)

    def _compiled(self, schema: str) -> Grammar:
        if self._vocabulary is None:
            self._vocabulary = self._vocabulary_of()
            self._tokenizer = self._vocabulary.tokenizer(self._encode)
        if schema != ANY_OBJECT:
            check_schema(self._vocabulary, schema)
        return Grammar(matcher_of(self._tokenizer, schema), len(self._vocabulary.tokens))
