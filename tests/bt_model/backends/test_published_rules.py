"""What published models do beside computing: how they begin, when they stop, what they leave out."""

from pathlib import Path

import pytest
import torch

from bt_model.assembly.load import load
from bt_model.backends.instructblip import MAX_INSTRUCTION, InstructBlipBackend
from bt_model.chat import VideoChat
from bt_model.generation.request import GenRequest, Soft, Tokens
from bt_model.types import GenerateOptions, Turn, VideoTokens
from tests import published, tiny

NOT_GIVEN = GenerateOptions()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models whose files say nothing of how to generate."""
    folder = tmp_path_factory.mktemp("weights")
    published.write_all(folder)
    for path in (folder / "tiny").glob("*.model.json"):
        path.write_text(
            path.read_text().replace('"repetition_penalty": 1.0', "").replace('"temperature": 0.0, ', "")
        )
    return folder


@pytest.fixture(scope="module")
def instructblip(weights: Path) -> InstructBlipBackend:
    backend = load("instructblip", weights, device="cpu").backend
    assert isinstance(backend, InstructBlipBackend)
    return backend


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llava-hf", GenerateOptions(max_tokens=1024, temperature=0.2)),
        ("minigpt4", GenerateOptions(max_tokens=300, temperature=1.0, top_p=0.9, repetition_penalty=1.05)),
        ("instructblip", GenerateOptions(max_tokens=256, temperature=0.0, repetition_penalty=1.5)),
    ],
)
def test_a_model_generates_as_it_was_published(weights: Path, name: str, expected: GenerateOptions) -> None:
    """docs/published-models.md, "Prompts and generation defaults"."""
    chat = load(name, weights, device="cpu")
    assert chat.backend.defaults == expected
    request = asked_of(chat)
    told = (request.temperature, request.top_p, request.repetition_penalty)
    assert told == (expected.temperature, expected.top_p or 1.0, expected.repetition_penalty or 1.0)


def asked_of(chat: VideoChat) -> GenRequest:
    return chat.request([Turn("user", "q")], [], NOT_GIVEN, request_id="a")


@pytest.mark.parametrize(
    ("name", "strings"), [("llava-hf", ()), ("minigpt4", ("###",)), ("instructblip", ())]
)
def test_a_model_stops_at_the_tokenizers_end_whatever_its_config_says(
    weights: Path, name: str, strings: tuple[str, ...]
) -> None:
    backend = load(name, weights, device="cpu").backend
    end = published.write_tokenizer(weights / "again").special("</s>")
    assert backend.stop_token_ids == {end}
    assert end != 1  # what every published config.json says, and these do
    assert backend.stop_strings == strings


def test_instructblip_says_nothing_for_the_unknown_token(instructblip: InstructBlipBackend) -> None:
    ids = instructblip.tokenizer.encode("left").ids
    assert instructblip.decode([0, *ids[:1], 0, *ids[1:], 0]) == "left"
    assert instructblip.tokenizer.decode([0]) != ""


def test_instructblips_soft_tokens_stand_before_its_beginning(instructblip: InstructBlipBackend) -> None:
    video = VideoTokens(b"key", torch.randn(tiny.P + 1, published.WIDTH))
    soft, asked = instructblip.segments([Turn("user", "who?")], [video])
    assert isinstance(soft, Soft)
    assert isinstance(asked, Tokens)
    assert asked.ids == (instructblip.tokenizer.special("</s>"), *instructblip.tokenizer.encode("who?").ids)


def soft_for(backend: InstructBlipBackend, text: str) -> torch.Tensor:
    video = torch.randn(tiny.P + 1, published.WIDTH, generator=torch.Generator().manual_seed(0))
    soft = backend.segments([Turn("user", text)], [VideoTokens(b"key", video)])[0]
    assert isinstance(soft, Soft)
    return soft.embeds


def test_a_long_instruction_loses_its_beginning(instructblip: InstructBlipBackend) -> None:
    words = [letter * 2 for letter in "abcdefghijklmnopqrstuvwxyz"] * 9
    kept = " ".join(words[-((MAX_INSTRUCTION - 2) // 2) :])  # two pieces a word, and two marks around them
    assert torch.equal(soft_for(instructblip, " ".join(words)), soft_for(instructblip, kept))
    assert not torch.equal(soft_for(instructblip, " ".join(words)), soft_for(instructblip, f"{kept} zz"))
    assert len(instructblip.instruction_tokenizer.encode(kept).ids) == MAX_INSTRUCTION - 2
