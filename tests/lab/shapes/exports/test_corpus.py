import json
from pathlib import Path

import pytest

from bt_model.errors import InvalidValueError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode
from lab.shapes.clip_file import CODECS, is_complete
from lab.shapes.exports.corpus import CorpusPlan, make_corpus, with_twins
from lab.shapes.splits import split_of
from tests.lab.shapes.hand_drawn import drawn, read_scene

PLAN = CorpusPlan(num_clips=6, num_test_clips=4, side=32, most_items=2, textures=True, diagonals=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("corpus")
    make_corpus(directory, PLAN)
    return directory


def test_the_manifest_names_every_list_with_its_number_of_entries(made: Path) -> None:
    files = json.loads((made / "manifest.json").read_text())["files"]
    lists = {path for end in ("csv", "json", "txt") for path in made.rglob(f"*.{end}")}
    sidecars = {path for path in lists if path.parent.name == "clips"}
    named = {made / entry["path"] for entry in files}
    assert named == lists - sidecars - {made / "manifest.json", made / "plan.json"}
    for entry in files:
        path = made / entry["path"]
        lines = path.read_text().splitlines()
        found = {".csv": len(lines) - 1, ".txt": len(lines)}.get(path.suffix)
        assert entry["entries"] == (len(json.loads(path.read_text())) if found is None else found)
        assert entry["entries"] > 0


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("test", 4), ("test_combo", 4)])
def test_every_split_has_its_clips_and_each_beside_its_twin(made: Path, split: str, count: int) -> None:
    clips = sorted((made / split / "clips").glob("*.mp4"))
    assert len(clips) == count
    assert all(is_complete(clip) for clip in clips)
    scenes = [read_scene(clip) for clip in clips]
    assert {split_of(scene) for scene in scenes} == {split}
    assert all(scene.twin() in scenes for scene in scenes)


@pytest.mark.parametrize("codec", CODECS)
def test_the_clips_of_a_list_decode(tmp_path: Path, codec: str) -> None:
    make_corpus(tmp_path, CorpusPlan(2, 2, side=32, kinds=("move",), codec=codec))
    names = json.loads((tmp_path / "test" / "msrvtt" / "msrvtt_test.json").read_text())
    for name in names:
        path = tmp_path / "test" / "msrvtt" / "videos" / name
        frames = decode(path, Sampling(num_frames=4), FrameSize(32), 4).pixels
        assert frames.shape == (4, 32, 32, 3)


def test_no_unfinished_file_is_left(made: Path) -> None:
    assert not [path for path in made.rglob("*") if path.name.endswith(".part")]


def test_a_stopped_run_goes_on_and_ends_like_one_that_was_not(made: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(split: str, done: int, total: int) -> None:
        if split == "test" and done == 2:
            raise StopError

    with pytest.raises(StopError):
        make_corpus(tmp_path, PLAN, progress=stop)
    assert not (tmp_path / "manifest.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "train" / "clips").iterdir()}
    make_corpus(tmp_path, PLAN)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for path in (path for path in made.rglob("*") if path.is_file()):
        assert (tmp_path / path.relative_to(made)).read_bytes() == path.read_bytes()


def test_progress_ends_at_the_number_of_clips_of_each_split(made: Path) -> None:
    counts: dict[str, tuple[int, int]] = {}
    make_corpus(made, PLAN, progress=lambda split, done, total: counts.update({split: (done, total)}))
    assert counts == {"train": (6, 6), "test": (4, 4), "test_combo": (4, 4)}


def test_another_plan_in_the_same_folder_is_refused(made: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"seed 1: .* holds a corpus with 0"):
        make_corpus(made, CorpusPlan(6, 4, seed=1, side=32, most_items=2, textures=True, diagonals=True))


def test_a_corpus_of_still_scenes_has_no_combinations_of_events() -> None:
    assert CorpusPlan(kinds=("still",)).splits.keys() == {"train", "test"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_clips": 0}, "num_clips is 0; allowed: 1 or more"),
        ({"num_test_clips": -1}, "num_test_clips is -1; allowed: 1 or more"),
        ({"side": 33}, "side is 33; allowed: an even number"),
        ({"side": 0}, "side is 0; allowed: an even number"),
        ({"side": 2}, "side is 2; allowed: an even number of pixels, 16 or more"),
        ({"side": -32}, "side is -32; allowed: an even number of pixels, 16 or more"),
        ({"kinds": ("fly",)}, "kinds is 'fly'; allowed: some of move, pace"),
        ({"kinds": ()}, "kinds is ''; allowed: some of move, pace"),
        ({"most_items": 4}, "most_items is 4; allowed: 1 to 3"),
        ({"codec": "vp9"}, "codec is 'vp9'; allowed: one of exact, default"),
    ],
)
def test_a_wrong_plan_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message) as refused:
        CorpusPlan(**values)  # pyright: ignore[reportArgumentType] wrong on purpose
    assert refused.value.param in values


def test_without_a_process_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="workers is 0; allowed: 1 or more"):
        make_corpus(tmp_path / "c", PLAN, workers=0)
    assert not (tmp_path / "c").exists()


def test_twins_lie_side_by_side_and_no_scene_twice() -> None:
    scenes = drawn(18, seed=1)
    listed = with_twins([*scenes, *scenes])
    assert len(listed) == len(set(listed)) == 2 * 16 + 2
    assert listed[:2] == [scenes[0], scenes[0].twin()]
