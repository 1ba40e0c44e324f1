"""Prompts with several videos: what the LLM computes of them, and what the engine keeps of them."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlavaForConditionalGeneration

from bt_model.assembly.load import load
from bt_model.backends.parts.template_backend import TemplateBackend
from bt_model.chat import VideoChat
from bt_model.errors import ContextLengthError
from bt_model.generation.engine import BatchEngine
from bt_model.generation.llama import Llama
from bt_model.generation.request import Delta, Finish, GenRequest, Soft, Tokens
from bt_model.types import MAX_VIDEOS, GenerateOptions, Place, Turn, VideoTokens
from bt_model.video.transform import normalise
from tests import published, tiny
from tests.bt_model.backends.test_published_models import NEW, continued, ids_of

DIALOGUE = [Turn("user", "what is it?"), Turn("assistant", "a circle"), Turn("user", "and here?")]
PLACES = (Place(0), Place(2))
OTHER = 5


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    published.write_all(folder)
    return folder


def clips(*seeds: int) -> list[Tensor]:
    return [tiny.clips(1, 1, seed) for seed in seeds]


def request_of(
    chat: VideoChat, pictures: Sequence[Tensor], turns: Sequence[Turn] = DIALOGUE, name: str = "a"
) -> GenRequest:
    videos = [
        VideoTokens(each.numpy().tobytes(), chat.encode(each)[0], place)
        for each, place in zip(pictures, PLACES, strict=False)
    ]
    options = GenerateOptions(max_tokens=NEW, temperature=0.0)
    return chat.request(turns, videos, options, request_id=name)


def said(engine: BatchEngine, request: GenRequest) -> tuple[list[int], int]:
    """The answer, and how much of the prompt was known."""
    events = list(engine.submit(request).stream())
    (end,) = (event for event in events if isinstance(event, Finish))
    return [i for event in events if isinstance(event, Delta) for i in event.token_ids], end.num_cached


def alone(chat: VideoChat, request: GenRequest) -> list[int]:
    engine = BatchEngine(chat.backend.lm, max_batch=1)
    engine.start()
    answer, num_cached = said(engine, request)
    engine.stop()
    assert num_cached == 0
    return answer


def test_llava_answers_about_two_pictures_as_the_library_does(weights: Path) -> None:
    folder = weights / "tiny" / "llava-hf"
    theirs = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    chat = load("llava-hf", weights, device="cpu")
    answers: list[list[int]] = []
    for pictures in (clips(0, 1), clips(1, 0), clips(0, OTHER)):
        request = request_of(chat, pictures)
        ids = ids_of(request, theirs.config.image_token_index)
        pixels = torch.cat([normalise(each[0]) for each in pictures])
        expected = continued(theirs, input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels)
        assert alone(chat, request) == expected
        answers.append(expected)
    assert answers[0] != answers[2]  # the second picture alone is another


@torch.inference_mode()
@pytest.mark.parametrize("name", ["llava-hf", "minigpt4"])
def test_the_llm_gets_every_videos_soft_tokens_between_its_words(weights: Path, name: str) -> None:
    chat = load(name, weights, device="cpu")
    backend, lm = chat.backend, chat.backend.lm
    assert isinstance(backend, TemplateBackend)
    assert isinstance(lm, Llama)
    first, second, other = clips(0, 1, 2)

    def words(text: str) -> Tensor:
        return lm.embed(torch.tensor(backend.tokenizer.encode(text).ids))

    def logits(*pictures: Tensor) -> Tensor:
        """Of the prompt that is put together by hand."""
        one, two = (backend.bridge.soft(chat.encode(each)[0]) for each in pictures)
        special = backend.tokenizer.special
        bos, eos = (lm.embed(torch.tensor([special(each)])) for each in ("<s>", "</s>"))
        system = backend.template.system  # pyright: ignore[reportAttributeAccessIssue] - no Jinja here
        if name == "llava-hf":
            parts = [
                bos, words(f"{system} USER: "), one, words("\nwhat is it? ASSISTANT: a circle"), eos,
                words("USER: "), two, words("\nand here? ASSISTANT:"),
            ]  # fmt: skip
        else:
            parts = [
                bos, words(f"{system}###Human: <Video>"), one,
                words("</Video> what is it?###Assistant: a circle###Human: <Video>"), two,
                words("</Video> and here?###Assistant: "),
            ]  # fmt: skip
        return lm(torch.cat(parts)[None])[0, -1]

    def served(*pictures: Tensor) -> Tensor:
        segments = request_of(chat, pictures).segments
        rows = [lm.embed(torch.tensor(s.ids)) if isinstance(s, Tokens) else s.embeds for s in segments]
        return lm(torch.cat(rows)[None])[0, -1]

    assert torch.equal(served(first, second), logits(first, second))
    for pictures in ((first, other), (second, first), (first, first)):
        assert (served(*pictures) - served(first, second)).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["llava-hf", "minigpt4"])
def test_what_is_kept_of_a_prompt_is_only_taken_up_to_the_first_other_video(weights: Path, name: str) -> None:
    chat = load(name, weights, device="cpu")
    first, second, other = clips(0, 1, 2)
    engine = BatchEngine(chat.backend.lm, max_batch=1)
    engine.start()
    known, request = list[int](), request_of(chat, [first, second])
    turns = [Turn("system", "s"), *DIALOGUE]  # a short one: what differs lies in the first page
    for number, pictures in enumerate(([first, second], [second, first], [first, other], [first, second])):
        request = request_of(chat, pictures, turns, str(number))
        answer, num_cached = said(engine, request)
        assert answer == alone(chat, request)
        known.append(num_cached)
    engine.stop()
    before = [place for place, segment in enumerate(request.segments) if isinstance(segment, Soft)]
    assert len(before) == 2
    up_to_first, up_to_second = (_length(request, place) for place in before)
    assert known[0] == 0
    assert known[1] <= up_to_first < known[2] <= up_to_second < known[3]


def _length(request: GenRequest, count: int) -> int:
    parts = request.segments[:count]
    return sum(len(part.ids) if isinstance(part, Tokens) else len(part.embeds) for part in parts)


def test_the_tokens_of_all_videos_count(weights: Path) -> None:
    chat = load("llava-hf", weights, device="cpu")
    one, two = (request_of(chat, clips(*seeds)) for seeds in ((0,), (0, 1)))
    assert two.num_video_tokens == 2 * one.num_video_tokens
    filled = "a" * (chat.card.max_context - two.num_prompt_tokens)
    long = [Turn("user", DIALOGUE[0].text + filled), *DIALOGUE[1:]]
    videos = [
        VideoTokens(b"", chat.encode(clip)[0], place) for clip, place in zip(clips(0, 1), PLACES, strict=True)
    ]
    with pytest.raises(ContextLengthError, match=rf"\({two.num_video_tokens} for 2 videos\)"):
        chat.request(long, videos, GenerateOptions(), request_id="a")


def test_a_card_says_how_many_videos_a_dialogue_may_have(weights: Path, tmp_path: Path) -> None:
    counts = {
        name: load(name, weights, device="cpu").card.max_videos
        for name in ("llava-hf", "minigpt4", "instructblip")
    }
    assert counts == {"llava-hf": MAX_VIDEOS, "minigpt4": MAX_VIDEOS, "instructblip": 1}
    published.write_hf_llava(tmp_path / "llava-hf")
    path = published.write_model_file(
        tmp_path, "two", backend="llava", tower="llava-hf", llm="llava-hf", projector="llava-hf",
        pooling="patches", template="llava_v1.5", max_videos=2,
    )  # fmt: skip
    assert load(str(path), tmp_path, device="cpu").card.max_videos == 2
