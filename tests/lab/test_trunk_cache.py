"""Batches: what is supervised, what is padding, and that training reads the prompts that serving writes."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from bt_model.errors import InvalidValueError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode
from bt_model.video.transform import normalise
from lab.shapes.clip_file import write_corpus
from lab.shapes.events import OPPOSITE, Move
from lab.shapes.scene import Scene, SceneItem
from lab.trunk_cache import TrunkCache, build_cache, states_by_number
from tests import tiny


def scene(x: float = 24.0, direction: str = "left") -> Scene:
    return Scene(
        (SceneItem("circle", "red", diameter=18.0, x=x, y=24.0),), "black", Move(direction, path=20.0)
    )


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_corpus(tmp_path_factory.mktemp("clips"), [scene(20.0 + n) for n in range(3)])


def cache_of(clips: Sequence[Path], path: Path, ticks: list[int]) -> TrunkCache:
    return build_cache(path, clips, [tiny.encoder()], 4, ticks.append)


def test_the_cache_holds_what_the_trunk_gives_for_each_clip(clips: list[Path], tmp_path: Path) -> None:
    cache = cache_of(clips, tmp_path / "a.trunk", [])
    for row, clip in enumerate(clips):
        frames = decode(clip, Sampling(num_frames=4), FrameSize(tiny.SIDE), 4).pixels
        states = tiny.trunk_states(tiny.encoder(), normalise(torch.from_numpy(frames))[None])
        torch.testing.assert_close(states_by_number(cache.batch([row])), states, rtol=2e-3, atol=2e-3)


def test_rows_come_in_the_order_asked_for(clips: list[Path], tmp_path: Path) -> None:
    cache = cache_of(clips, tmp_path / "a.trunk", [])
    mixed = cache.batch([2, 0, 1])
    for index, row in enumerate([2, 0, 1]):
        assert torch.equal(mixed[index], cache.batch([row])[0])


def test_a_finished_cache_is_not_computed_again(clips: list[Path], tmp_path: Path) -> None:
    ticks: list[int] = []
    first = cache_of(clips, tmp_path / "a.trunk", ticks).batch([0, 1, 2])
    again = cache_of([Path("gone.mp4")] * 3, tmp_path / "a.trunk", ticks).batch([0, 1, 2])
    torch.testing.assert_close(again, first, rtol=0, atol=0)
    assert ticks == [3]


def test_one_cache_holds_what_all_models_of_a_tower_read(clips: list[Path], tmp_path: Path) -> None:
    tower = tiny.tower()
    models = [tiny.trained(config, tower) for config in tiny.TEMPORAL.values()]
    cache = build_cache(tmp_path / "a.trunk", clips, models, 4, [].append)
    assert cache.numbers == (0, 3, 4, 5)
    frames = [decode(clip, Sampling(num_frames=4), FrameSize(tiny.SIDE), 4).pixels for clip in clips]
    pixels = torch.stack([normalise(torch.from_numpy(each)) for each in frames])
    for model in models:
        states = states_by_number(cache.batch([0, 1, 2], model.reads))
        torch.testing.assert_close(states, tiny.trunk_states(model, pixels), rtol=2e-3, atol=2e-3)
        found, expected = (
            model.chat_from_trunk(states_by_number(cache.batch([2], model.chat_reads))),
            model.chat(pixels[2:]),
        )
        error = (found.trunk - expected.trunk).abs().max() / expected.trunk.abs().max()
        assert error < 1e-2


def test_a_state_that_is_not_cached_is_refused(clips: list[Path], tmp_path: Path) -> None:
    cache = cache_of(clips, tmp_path / "a.trunk", [])
    with pytest.raises(InvalidValueError, match=r"reads is \[0\]; allowed: \(3, 4, 5\), as cached") as caught:
        cache.batch([0], range(1))
    assert caught.value.param == "reads"


def test_a_cache_of_something_else_is_refused(clips: list[Path], tmp_path: Path) -> None:
    cache_of(clips, tmp_path / "a.trunk", [])
    with pytest.raises(
        InvalidValueError, match=r"a\.trunk has \d+ bytes; allowed: \d+, of \(3, 3, 8, 10, 32\)"
    ):
        build_cache(tmp_path / "a.trunk", clips, [tiny.encoder()], 8, [].append)


def test_a_twins_states_are_the_states_in_reverse(clips: list[Path], tmp_path: Path) -> None:
    twin = write_corpus(tmp_path / "twin", [scene(20.0, OPPOSITE["left"])])
    cache = cache_of([clips[0], twin[0]], tmp_path / "a.trunk", [])
    clip, twin = cache.batch([0, 1])
    torch.testing.assert_close(twin, clip.flip(1), rtol=2e-3, atol=2e-3)
