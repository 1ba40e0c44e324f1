"""What the chat routes answer: OpenAI's chat completions, whole and in chunks, with our receipt."""

from typing import Literal

from server.bodies.described import ResponseBody
from server.bodies.errors import ErrorDetail
from server.bodies.receipts import Receipt

FinishReason = Literal["stop", "length", "error"]


class TokenChance(ResponseBody):
    """A token and how likely the model found it."""

    token: str
    """its text; `bytes:\\xe6\\x97` where it is no whole character"""
    bytes: list[int] | None
    """its UTF-8; null for a special token"""
    logprob: float
    """the natural logarithm of its probability, before penalties, temperature and truncation"""


class ChosenToken(TokenChance):
    """A token of the answer."""

    top_logprobs: list[TokenChance]
    """the likeliest tokens at its place, as many as were asked for"""


class ChoiceLogprobs(ResponseBody):
    """Log probabilities of an answer's tokens."""

    content: list[ChosenToken]
    """one for each token of the text"""
    refusal: None
    """always null"""


class TokenDetails(ResponseBody):
    """Parts of the prompt."""

    cached_tokens: int
    """tokens that were not computed again"""
    video_tokens: int
    """tokens that came from videos"""


class CompletionUsage(ResponseBody):
    """What an answer took."""

    prompt_tokens: int
    """tokens of the prompt, those of videos included"""
    completion_tokens: int
    """tokens of the answer"""
    total_tokens: int
    """both together"""
    prompt_tokens_details: TokenDetails
    """parts of the prompt"""


class AnswerMessage(ResponseBody):
    """What the model said."""

    role: Literal["assistant"]
    """always assistant"""
    content: str
    """the text"""
    refusal: None
    """always null"""


class AnswerNote(ResponseBody):
    """What a client should know of an answer that is not what it may seem."""

    code: str
    """a word for programs, such as no_video"""
    message: str
    """the same for people"""


class CompletionChoice(ResponseBody):
    """One answer."""

    index: int
    """its number, from 0"""
    message: AnswerMessage
    """what the model said"""
    logprobs: ChoiceLogprobs | None
    """where they were asked for"""
    finish_reason: FinishReason
    """why the answer ends: by itself or a stop string, by its length, or in an error"""
    model: str | None = None
    """of several models, whose answer it is"""
    system_fingerprint: str | None = None
    """of several models, this one's fingerprint"""
    usage: CompletionUsage | None = None
    """of several models, what this answer took"""
    receipt: Receipt | None = None
    """of several models, this answer's receipt"""
    error: ErrorDetail | None = None
    """of several models, why this one did not answer"""


class Completion(ResponseBody):
    """A whole answer, or several."""

    id: str
    """of this answer"""
    object: Literal["chat.completion"]
    """always chat.completion"""
    created: int
    """seconds since 1970"""
    model: str | list[str]
    """who answered; the list where a list was asked"""
    system_fingerprint: str | None
    """of weights and of what affects answers; null for several models"""
    choices: list[CompletionChoice]
    """the answers"""
    usage: CompletionUsage
    """what all of them took; the prompt of several choices counts once"""
    receipt: Receipt | None = None
    """what the answer was made of; of several models it stands in each choice"""
    warnings: list[AnswerNote] | None = None
    """left out where there are none"""


class ChunkDelta(ResponseBody):
    """What is new."""

    role: Literal["assistant"] | None = None
    """in the first chunk of a choice"""
    content: str | None = None
    """text that follows what came before"""


class ChunkChoice(ResponseBody):
    """What is new in one answer."""

    index: int
    """the answer's number, from 0"""
    delta: ChunkDelta
    """what is new"""
    logprobs: ChoiceLogprobs | None
    """of the tokens of this text"""
    finish_reason: FinishReason | None
    """null until the answer ends"""
    usage: CompletionUsage | None = None
    """of several models, at the end, what this answer took"""
    receipt: Receipt | None = None
    """of several models, at the end, this answer's receipt"""
    error: ErrorDetail | None = None
    """of several models, why this one ends"""


class CompletionChunk(ResponseBody):
    """One event of a stream."""

    id: str
    """of the answer, the same in all chunks"""
    object: Literal["chat.completion.chunk"]
    """always chat.completion.chunk"""
    created: int
    """seconds since 1970, the same in all chunks"""
    model: str | list[str]
    """who answers; of the last chunk of several models all"""
    system_fingerprint: str | None
    """of weights and of what affects answers, once the model is loaded"""
    choices: list[ChunkChoice]
    """what is new; empty in the chunk with the usage"""
    usage: CompletionUsage | None = None
    """what all answers took, in the last chunk where it was asked for; or this one so far, in every chunk"""
    receipt: Receipt | None = None
    """what the answer was made of, in the chunk with its finish_reason"""
    warnings: list[AnswerNote] | None = None
    """left out where there are none"""
