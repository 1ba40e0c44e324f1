"""All words of the corpus: a word-level tokenizer that knows them never meets an unknown one."""

import re
from itertools import chain

from bt_model.training.corpus.captions import CAPTIONS
from bt_model.training.corpus.questions import QUESTIONS, happening
from bt_model.training.corpus.scene import BACKGROUNDS, CHANGES, COLOURS, DIRECTIONS, PULSES, SHAPES

_WORD = re.compile(r"[a-z]+|[^\sa-z]")
_PLACEHOLDER = re.compile(r"\{\w+\}")
_SIZES = ("small", "large")


def split_words(text: str) -> list[str]:
    """Split text into words and punctuation marks, as the vocabulary lists them."""
    return _WORD.findall(text.lower())


def vocabulary() -> list[str]:
    """Return every word and mark that captions, questions and answers can hold, sorted."""
    templates = chain.from_iterable(
        (*group.train, *group.held_out) for group in (*CAPTIONS.values(), *QUESTIONS.values())
    )
    happenings = (happening(verb) for verb in (*CHANGES, *PULSES))
    values = (*SHAPES, *COLOURS, *BACKGROUNDS, *DIRECTIONS, *_SIZES, "object", *happenings)
    texts = (*(_PLACEHOLDER.sub(" ", template) for template in templates), *values)
    return sorted({word for text in texts for word in split_words(text)})
