"""Stored states: written once, found by name, and as good as the videos themselves."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.decoding.child import read_frames
from bt_model.decoding.wire import Request
from bt_model.errors import InvalidValueError
from bt_model.training.data.clip_list import ClipSource
from bt_model.training.data.features import FeatureReader, read_manifest, stored_videos
from bt_model.training.data.loader import why_broken
from bt_model.training.instruct.features import write_features
from bt_model.training.instruct.recipe import Framing
from bt_model.training.instruct.run import instruct
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.trainer.log import read_rows
from bt_model.training.trainer.parallel import Rank
from bt_model.video.transform import normalise
from bt_model.vision.clip import hidden_states
from tests import tiny
from tests.bt_model.training.videos import NUM_CLIPS, Videos

ALONE = Rank()
FOUR_LAYERS = {"model": {"adapter": "fresh"}, "temporal": {"branch": {"num_layers": 4}}}


def with_features(videos: Videos, folder: Path, *layers: dict[str, Any]) -> InstructSettings:
    return videos.settings({"data": {"features": str(folder)}}, *layers)


@pytest.fixture(scope="module")
def features(videos: Videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    stored = write_features(with_features(videos, folder), ALONE)
    assert (stored.num_written, stored.num_broken) == (NUM_CLIPS, 0)
    return folder


def losses(settings: InstructSettings, work: Path) -> list[float]:
    instruct(settings, work, ALONE)
    return [row["loss"] for row in read_rows(work / "instruct.csv")]


def test_training_on_features_has_the_losses_of_training_on_videos(
    videos: Videos, features: Path, tmp_path: Path
) -> None:
    expected = losses(videos.settings(), tmp_path / "videos")
    found = losses(with_features(videos, features), tmp_path / "features")
    assert found == pytest.approx(expected, rel=1e-3)
    assert found != expected
    every = tmp_path / "every"
    write_features(with_features(videos, every), ALONE, all_states=True)
    assert losses(with_features(videos, every), tmp_path / "all") == pytest.approx(expected, rel=1e-3)


def test_a_file_holds_the_state_that_the_branch_begins_with(features: Path, videos: Videos) -> None:
    manifest = read_manifest(features)
    framing = Framing(**manifest.framing)
    assert manifest.numbers == (3,)
    assert manifest.tower == fingerprint(tiny.tower().state_dict())
    assert set(stored_videos(features)) == {path.stem for path in videos.files}
    for video, path in stored_videos(features).items():
        with (videos.export / "videos" / f"{video}.mp4").open("rb") as file:
            pixels = read_frames(file, framing.request(ClipSource(file.name)))[0].pixels
        expected = hidden_states(tiny.tower(), normalise(torch.tensor(pixels))[None], [3])[3]
        states = load_file(path)["states"]
        assert states.dtype == torch.float16
        torch.testing.assert_close(states.float(), expected, rtol=2e-3, atol=2e-3)


def test_equal_videos_share_a_file_whatever_their_names(videos: Videos, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    for name in ("v_a", "v_b"):
        (root / f"{name}.mp4").write_bytes(videos.files[0].read_bytes())
    rows = [{"q": "q", "a": "a", "video_id": name} for name in ("v_a", "v_b")]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    data = {"annotations": [str(tmp_path / "rows.json")], "root": str(root)}
    write_features(with_features(videos, tmp_path / "out", {"data": data}), ALONE)
    assert len({str(path) for path in stored_videos(tmp_path / "out").values()}) == 1
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 1


def test_what_is_stored_is_not_done_again_but_after_a_cut_line(
    features: Path, videos: Videos, tmp_path: Path
) -> None:
    folder = Path(copytree(features, tmp_path / "copy"))
    settings = with_features(videos, folder)
    assert write_features(settings, ALONE).num_written == 0
    lines = folder / "videos-0.jsonl"
    lines.write_text(lines.read_text()[:-5])
    assert write_features(settings, ALONE).num_written == 1
    assert stored_videos(folder).keys() == stored_videos(features).keys()


def test_a_video_that_cannot_be_read_is_left_out_and_noted(videos: Videos, tmp_path: Path) -> None:
    root = Path(copytree(videos.export / "videos", tmp_path / "videos"))
    broken, gone = sorted(root.glob("*.mp4"))[:2]
    broken.write_bytes(b"no video")
    gone.unlink()
    settings = with_features(videos, tmp_path / "out", {"data": {"root": str(root)}})
    stored = write_features(settings, ALONE)
    assert (stored.num_written, stored.num_broken) == (NUM_CLIPS - 2, 2)
    noted = (tmp_path / "out" / "broken-0.jsonl").read_text()
    assert broken.stem in noted
    assert gone.stem in noted
    assert not {broken.stem, gone.stem} & set(stored_videos(tmp_path / "out"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"frames": 2}}, "whose framing is"),
        ({"data": {"strategy": "middle"}}, "whose framing is"),
        (FOUR_LAYERS, r"whose first state is \(3,\); allowed: \(2,\)"),
    ],
)
def test_features_of_something_else_are_refused(
    change: dict[str, Any], message: str, videos: Videos, features: Path, tmp_path: Path
) -> None:
    settings = with_features(videos, features, change)
    with pytest.raises(InvalidValueError, match=message) as caught:
        instruct(settings, tmp_path, ALONE)
    assert caught.value.param == "data.features"
    with pytest.raises(InvalidValueError, match=message):
        write_features(settings, ALONE)


def test_features_of_another_tower_are_refused(videos: Videos, features: Path, tmp_path: Path) -> None:
    folder = Path(copytree(features, tmp_path / "copy"))
    manifest = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps({**manifest, "tower": "0" * 64}))
    with pytest.raises(InvalidValueError, match="whose tower is 0000"):
        instruct(with_features(videos, folder), tmp_path / "work", ALONE)


def test_all_states_are_not_added_to_first_ones(videos: Videos, features: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"whose states is \(3,\); allowed: \(3, 4\)"):
        write_features(with_features(videos, features), ALONE, all_states=True)


def test_without_a_folder_nothing_is_written_or_read(videos: Videos, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"data\.features is ''; allowed: a folder to write"):
        write_features(videos.settings(), ALONE)
    with pytest.raises(InvalidValueError, match="allowed: a folder of `btchat train features`"):
        instruct(with_features(videos, tmp_path / "none"), tmp_path / "work", ALONE)


def test_states_are_read_or_it_is_said_why_not(features: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.safetensors").write_bytes(b"x" * 99)
    stored = next(iter(stored_videos(features).values()))
    with FeatureReader(3) as reader:
        found, damaged, missing = (
            reader.read(path, Request("frames"))
            for path in (stored, tmp_path / "damaged.safetensors", tmp_path / "none")
        )
    assert torch.equal(torch.from_numpy(found.result().copy()), load_file(stored)["states"])
    errors = damaged.exception(), missing.exception()
    assert errors[0] is not None
    assert errors[1] is not None
    assert "SafetensorError" in why_broken(errors[0])
    assert "none" in why_broken(errors[1])
