from pathlib import Path

import pytest

from bt_model.errors import InvalidValueError
from lab.shapes.exports.files import ClipFile, link_clips, write_entries, write_text


def test_a_list_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    write_entries(path, [1, 2], "numbers")
    with pytest.raises(TypeError):
        write_entries(path, [object()], "no JSON")
    assert path.read_text() == "[\n 1,\n 2\n]\n"


def test_no_unfinished_file_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_clips_take_no_room_twice(tmp_path: Path, clips: list[ClipFile]) -> None:
    link_clips([tmp_path / "linked" / clip.path.name for clip in clips], clips)
    for clip in clips:
        assert (tmp_path / "linked" / clip.path.name).samefile(clip.path)


def test_linking_again_changes_nothing(tmp_path: Path, clips: list[ClipFile]) -> None:
    names = [tmp_path / "linked" / clip.path.name for clip in clips]
    for _ in range(2):
        link_clips(names, clips)
    assert sorted((tmp_path / "linked").iterdir()) == sorted(names)


def test_a_name_that_held_another_clip_is_given_to_the_new_one(tmp_path: Path, clips: list[ClipFile]) -> None:
    name = tmp_path / "linked.mp4"
    link_clips([name], clips[:1])
    link_clips([name], clips[1:2])
    assert name.read_text() == "1"
    assert clips[0].path.read_text() == "0"


def test_two_clips_of_one_name_are_refused(tmp_path: Path, clips: list[ClipFile]) -> None:
    with pytest.raises(InvalidValueError, match=r"clip 'a.mp4': every clip once"):
        link_clips([tmp_path / "a.mp4"] * 2, clips[:2])
