"""All words of the corpus: a word-level tokenizer that knows them never meets an unknown one."""

import re
from itertools import chain

from lab.shapes.captions import CAPTIONS
from lab.shapes.events import CHANGES, DIRECTIONS, PACES, PULSES, RESIZES, TURNS
from lab.shapes.facts import NUMBERS, TEXTURE_WORDS, TIMES, third_person
from lab.shapes.scene import BACKGROUNDS, COLOURS, SHAPES, SIZES
from lab.shapes.wordings import DESCRIPTIONS, QUESTIONS, SENTENCES

_WORD = re.compile(r"[a-z]+|[^\sa-z]")
_PLACEHOLDER = re.compile(r"\{\w+\}")
# articles, joining words and nouns that captions and answers put round the values
_JOINTS = "a an and it left of with is are object objects other background ."


def split_words(text: str) -> list[str]:
    """Split text into words and punctuation marks, as the vocabulary lists them."""
    return _WORD.findall(text.lower())


def vocabulary() -> list[str]:
    """Return every word and mark that captions, questions and answers can hold, sorted."""
    templates = chain.from_iterable(
        (*group.train, *group.held_out) for group in (*CAPTIONS.values(), *QUESTIONS.values(), DESCRIPTIONS)
    )
    bare = (_PLACEHOLDER.sub(" ", text) for text in (*templates, *chain.from_iterable(SENTENCES.values())))
    verbs = (*PACES, *CHANGES, *RESIZES)
    values = (*SHAPES, *COLOURS, *BACKGROUNDS, *TEXTURE_WORDS.values(), *SIZES, *DIRECTIONS, *TURNS)
    texts = (*bare, *values, *NUMBERS, *TIMES, *verbs, *map(third_person, (*verbs, *PULSES)), _JOINTS)
    return sorted({word for text in texts for word in split_words(text)})
