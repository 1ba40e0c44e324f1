"""Loaded from published folders, our models answer as the libraries' own do, token for token."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import InstructBlipForConditionalGeneration, LlavaForConditionalGeneration

from bt_model.assembly.load import load
from bt_model.backends.instructblip import InstructBlipBackend
from bt_model.backends.parts.template_backend import TemplateBackend
from bt_model.chat import VideoChat
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Delta, GenRequest, Soft, Tokens
from bt_model.types import GenerateOptions, Turn, VideoTokens
from bt_model.video.transform import normalise
from bt_model.vision.attention import MultiHeadAttention
from tests import published, tiny

NEW = 12
ASKED = [Turn("user", "what happens here?")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    published.write_all(folder)
    return folder


def picture(seed: int = 0) -> Tensor:
    return tiny.clips(1, 1, seed)


def soft_of(request: GenRequest) -> Tensor:
    (soft,) = (part for part in request.segments if isinstance(part, Soft))
    return soft.embeds


def close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def request_of(chat: VideoChat, clip: Tensor, turns: list[Turn] = ASKED) -> GenRequest:
    video = VideoTokens(b"key", chat.encode(clip)[0])
    return chat.request(turns, [video], GenerateOptions(max_tokens=NEW, temperature=0.0), request_id="a")


def answer(chat: VideoChat, request: GenRequest) -> list[int]:
    engine = BatchEngine(chat.backend.lm, max_batch=2)
    engine.start()
    events = list(engine.submit(request).stream())
    engine.stop()
    return [number for event in events if isinstance(event, Delta) for number in event.token_ids]


def ids_of(request: GenRequest, image_id: int | None) -> Tensor:
    """The prompt with the library's placeholder for every soft token."""
    assert image_id is not None
    flat: list[int] = []
    for part in request.segments:
        flat += [image_id] * len(part.embeds) if isinstance(part, Soft) else part.ids
    return torch.tensor([flat])


def seen_by(model: Any, **inputs: Tensor) -> Tensor:
    """The library's soft tokens of one picture."""
    with torch.inference_mode():
        return model.get_image_features(**inputs).pooler_output[0]


def continued(model: Any, **inputs: Tensor) -> list[int]:
    """The library's greedy answer; its own stop id is never the model's."""
    with torch.inference_mode():
        out = model.generate(**inputs, max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0)
    return out[0, -NEW:].tolist()


def test_llava_15_answers_as_the_library_does(weights: Path) -> None:
    folder = weights / "tiny" / "llava-hf"
    theirs = LlavaForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    chat = load("llava-hf", weights, device="cpu")
    answers: list[list[int]] = []
    for clip in (picture(0), picture(1)):
        request = request_of(chat, clip)
        ids = ids_of(request, theirs.config.image_token_index)
        pixels = normalise(clip[0])
        close(soft_of(request), seen_by(theirs, pixel_values=pixels))
        expected = continued(theirs, input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels)
        assert answer(chat, request) == expected
        answers.append(expected)
    assert answers[0] != answers[1]


def test_instructblip_answers_as_the_library_does(weights: Path) -> None:
    folder = weights / "tiny" / "instructblip-hf"
    theirs = InstructBlipForConditionalGeneration.from_pretrained(folder, attn_implementation="eager").eval()
    chat = load("instructblip", weights, device="cpu")
    assert isinstance(chat.backend, InstructBlipBackend)
    words = chat.backend.instruction_tokenizer
    asked = torch.tensor([[words.special("[CLS]"), *words.encode(ASKED[0].text).ids, words.special("[SEP]")]])
    answers: list[list[int]] = []
    for clip in (picture(0), picture(1)):
        request = request_of(chat, clip)
        ids = ids_of(request, theirs.config.image_token_index)
        seen = {
            "pixel_values": normalise(clip[0]), "qformer_input_ids": asked,
            "qformer_attention_mask": torch.ones_like(asked),
        }  # fmt: skip
        close(soft_of(request), seen_by(theirs, **seen))
        expected = continued(theirs, input_ids=ids, attention_mask=torch.ones_like(ids), **seen)
        assert answer(chat, request) == expected
        answers.append(expected)
    assert answers[0] != answers[1]


def test_an_answer_of_instructblip_that_has_begun_stands_behind_the_question(weights: Path) -> None:
    chat = load("instructblip", weights, device="cpu")
    asked, begun = (
        request_of(chat, picture(), turns) for turns in (ASKED, [*ASKED, Turn("assistant", "it is")])
    )
    (one, before), (other, behind) = asked.segments, begun.segments
    assert isinstance(one, Soft)
    assert isinstance(other, Soft)
    assert one.key == other.key  # its Q-Former reads the question alone
    assert isinstance(before, Tokens)
    assert isinstance(behind, Tokens)
    assert chat.backend.decode(behind.ids) == chat.backend.decode(before.ids) + " it is"


def test_soft_tokens_of_instructblip_depend_on_the_instruction(weights: Path) -> None:
    chat = load("instructblip", weights, device="cpu")
    one, other = (request_of(chat, picture(), [Turn("user", text)]) for text in ("what?", "who is it?"))
    first, second = one.segments[0], other.segments[0]
    assert isinstance(first, Soft)
    assert isinstance(second, Soft)
    assert first.key != second.key
    assert (first.embeds - second.embeds).abs().max() > 1e-3


def test_the_original_files_give_what_the_librarys_folder_gives(weights: Path, tmp_path: Path) -> None:
    hf = weights / "tiny" / "instructblip-hf"
    published.write_original_files(tmp_path / "lavis", hf, with_text=True)
    path = published.write_model_file(
        tmp_path, "lavis", backend="instructblip", tower="lavis/eva", llm="lavis/vicuna",
        projector="lavis/projection.safetensors", qformer="lavis/qformer.safetensors", select_layer=-1,
    )  # fmt: skip
    original, library = load(str(path), tmp_path, device="cpu"), load("instructblip", weights, device="cpu")
    assert isinstance(original.backend, InstructBlipBackend)
    # 16 wide in the test, 64 a head in every published one
    assert original.backend.bridge.qformer is not None
    for layer in original.backend.bridge.qformer.modules():
        if isinstance(layer, MultiHeadAttention):
            layer.num_heads = 2
    soft, expected = request_of(original, picture()).segments[0], request_of(library, picture()).segments[0]
    assert isinstance(soft, Soft)
    assert isinstance(expected, Soft)
    # ln_vision has another epsilon in the original: 1e-5, not 1e-6
    torch.testing.assert_close(soft.embeds, expected.embeds, rtol=1e-3, atol=1e-3)
    assert answer(original, request_of(original, picture())) == answer(
        library, request_of(library, picture())
    )


def test_minigpt4_puts_the_video_between_its_tags(weights: Path) -> None:
    chat = load("minigpt4", weights, device="cpu")
    assert isinstance(chat.backend, TemplateBackend)
    request = request_of(chat, tiny.clips(1, 4))
    head, video, tail = request.segments
    assert isinstance(video, Soft)
    assert tuple(video.embeds.shape) == (published.QUERIES, published.LLM_WIDTH)
    assert not isinstance(head, Soft)
    assert not isinstance(tail, Soft)
    assert head.ids[0] == chat.backend.tokenizer.special("<s>")
    assert chat.backend.decode(head.ids[1:]).endswith("###Human: <Video>")
    assert chat.backend.decode(tail.ids) == "</Video> what happens here?###Assistant: "
    assert chat.backend.stop_strings == ("###",)
    assert len(answer(chat, request)) == NEW


@pytest.mark.parametrize(
    ("entry", "num_soft"), [("clip", 4), ("frames", 4), ("all_frames", 16), ("joint", 4)]
)
def test_video_features_enter_the_qformer_in_four_ways(weights: Path, entry: str, num_soft: int) -> None:
    pooling = "patches_cls" if entry == "clip" else "frames_cls"
    folder = weights / "tiny"
    path = published.write_model_file(
        folder, f"entry-{entry}", backend="instructblip", tower="blip2/eva", llm="instructblip-hf",
        projector="instructblip-hf", qformer="instructblip-hf", select_layer=-1, entry=entry, pooling=pooling,
    )  # fmt: skip
    chat = load(str(path), weights, device="cpu")
    clip = tiny.clips(1, 4)
    soft = request_of(chat, clip).segments[0]
    assert isinstance(soft, Soft)
    assert len(soft.embeds) == num_soft
    if entry == "frames":
        alone = [request_of(chat, clip[:, t : t + 1]).segments[0] for t in range(4)]
        mean = torch.stack([part.embeds for part in alone if isinstance(part, Soft)]).mean(dim=0)
        torch.testing.assert_close(soft.embeds, mean, rtol=1e-4, atol=1e-4)
