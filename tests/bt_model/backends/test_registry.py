"""The contract of every backend, and the registry that names them."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bt_model.backends.base import Backend
from bt_model.backends.registry import factory, names
from bt_model.checkpoints.weights import Checkpoint, open_checkpoint
from bt_model.errors import InvalidValueError, UnknownNameError
from bt_model.generation.engine import BatchEngine
from bt_model.generation.request import Delta, GenRequest, Soft, Tokens
from bt_model.prompt.templates import TEMPLATES
from bt_model.types import Turn, VideoTokens
from tests import published, tiny
from tests.bt_model.backends.folders import files

QFORMER = ("minigpt4", "instructblip")


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A folder with a Q-Former, for the backends that need one."""
    folder = tmp_path_factory.mktemp("bridged")
    published.write_hf_instructblip(folder)
    return open_checkpoint(folder)


@pytest.fixture(params=names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def backend(name: str, tiny_weights: Path, bridged: Checkpoint) -> Backend:
    plain = files(tiny_weights / "tiny")
    if name in QFORMER:
        template = name if name in TEMPLATES else "plain"
        plain = replace(plain, llm=bridged, projector=bridged, qformer=bridged, template=template)
    return factory(name)(plain)


@pytest.fixture
def video() -> VideoTokens:
    return VideoTokens(b"key", torch.randn(tiny.P + 1, tiny.D))


def ids_of(backend: Backend, text: str) -> list[int]:
    """A question's prompt without its first mark and without marks that would end an answer."""
    parts = backend.segments([Turn("user", text)], [])
    ids = [i for part in parts if isinstance(part, Tokens) for i in part.ids]
    return [i for i in ids[1:] if i not in backend.stop_token_ids]


def test_the_video_takes_as_many_places_as_promised(name: str, backend: Backend, video: VideoTokens) -> None:
    soft = [part for part in backend.segments([Turn("user", "q")], [video]) if isinstance(part, Soft)]
    places = published.QUERIES if name in QFORMER else tiny.P + 1
    assert [tuple(part.embeds.shape) for part in soft] == [(places, backend.lm.hidden_size)]
    again = backend.segments([Turn("user", "q")], [VideoTokens(b"other", video.tokens)])
    keys = {part.key for part in (*soft, *again) if isinstance(part, Soft)}
    assert len(keys) == 2


def test_a_dialogue_without_a_video_has_no_soft_tokens(backend: Backend) -> None:
    assert not [p for p in backend.segments([Turn("user", "q")], []) if isinstance(p, Soft)]


def test_bad_dialogues_are_refused(backend: Backend) -> None:
    with pytest.raises(InvalidValueError):
        backend.segments([Turn("assistant", "a")], [])


def test_text_survives_a_round_trip(backend: Backend) -> None:
    text = "what happens? 日本 🎬 </s>"
    assert text in backend.decode(ids_of(backend, text))


def test_an_unfinished_character_decodes_to_a_replacement(backend: Backend) -> None:
    ids = ids_of(backend, "🎬")
    assert any(backend.decode(ids[:stop]).endswith("�") for stop in range(len(ids)))


def test_its_decoder_runs_in_the_engine(backend: Backend, video: VideoTokens) -> None:
    engine = BatchEngine(backend.lm, max_batch=2)
    engine.start()
    prompt = backend.segments([Turn("user", "say this")], [video])
    request = GenRequest("a", prompt, max_new_tokens=4, stop_token_ids=backend.stop_token_ids)
    events = list(engine.submit(request).stream())
    engine.stop()
    assert sum(len(e.token_ids) for e in events if isinstance(e, Delta)) == 4


@pytest.mark.parametrize("text", ["hello", "多 🎬 bytes"])
def test_echo_repeats_the_last_question_and_stops(video: VideoTokens, tiny_weights: Path, text: str) -> None:
    backend = factory("echo")(files(tiny_weights / "tiny"))
    engine = BatchEngine(backend.lm, max_batch=2)
    engine.start()
    turns = [Turn("user", "first"), Turn("assistant", "a"), Turn("user", text)]
    request = GenRequest("a", backend.segments(turns, [video]), 200, backend.stop_token_ids)
    events = list(engine.submit(request).stream())
    engine.stop()
    assert backend.decode([i for e in events if isinstance(e, Delta) for i in e.token_ids]) == text


def test_an_unknown_backend_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(UnknownNameError, match="backend is 'gpt'; allowed: echo, llava") as caught:
        factory("gpt")
    assert caught.value.param == "backend"


def test_naming_the_backends_imports_none_of_them() -> None:
    code = "import sys; from bt_model.backends.registry import names; names(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
