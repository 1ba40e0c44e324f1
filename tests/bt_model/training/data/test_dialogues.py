"""Instruction files of both forms, and the videos that they are about."""

import json
from pathlib import Path
from typing import Any

import pytest

from bt_model.errors import InvalidValueError
from bt_model.training.data.dialogues import (
    DialogueList,
    Exchange,
    VideoDialogue,
    find_videos,
    pack_dialogues,
    read_dialogues,
)
from bt_model.training.instruct.settings import InstructData
from tests.bt_model.training.videos import Videos


def conversation(*turns: str, video: str = "v_a.pkl") -> dict[str, Any]:
    speakers = ["human", "gpt"] * len(turns)
    said = [{"from": speaker, "value": text} for speaker, text in zip(speakers, turns, strict=False)]
    return {"id": "v_a", "video": video, "conversations": said}


def read(folder: Path, rows: object, **fields: Any) -> DialogueList:
    path = folder / "rows.json"
    path.write_text(json.dumps(rows))
    return read_dialogues(InstructData(annotations=(str(path),), **fields))


def test_both_forms_of_the_same_corpus_are_the_same_dialogues(videos: Videos) -> None:
    pairs, conversations = (
        read_dialogues(InstructData(annotations=(str(path),), place="published"))
        for path in (videos.pairs, videos.conversations)
    )
    assert pairs == conversations
    assert [each.is_video_first for each in pairs.dialogues[:4]] == [False, True, False, True]
    rows = json.loads(videos.pairs.read_text())
    assert [(each.video, each.exchanges) for each in pairs.dialogues] == [
        (row["video_id"], (Exchange(row["q"], row["a"]),)) for row in rows
    ]


def test_the_templates_place_is_told_by_no_dialogue(videos: Videos) -> None:
    for path in (videos.pairs, videos.conversations):
        read = read_dialogues(InstructData(annotations=(str(path),), place="template"))
        assert {each.is_video_first for each in read.dialogues} == {None}


def test_a_conversation_has_several_turns_and_no_question_at_its_end(tmp_path: Path) -> None:
    rows = [
        conversation("<video>\nq1", "a1", "q2", "a2", "q3"),
        conversation("q1 \n<video>", "a1", video="v_b.c"),
    ]
    assert read(tmp_path, rows, place="published").dialogues == [
        VideoDialogue("v_a", (Exchange("q1", "a1"), Exchange("q2", "a2")), is_video_first=True),
        VideoDialogue("v_b.c", (Exchange("q1", "a1"),), is_video_first=False),
    ]


def test_rows_without_a_question_or_an_answer_are_left_out_and_counted(tmp_path: Path) -> None:
    good, empty = {"q": "q", "a": "a", "video_id": "v"}, {"q": " ", "a": "a", "video_id": "v"}
    rows = [good, empty, {**good, "a": ""}, conversation("<video>", "a"), conversation("q<video>")]
    found = read(tmp_path, rows)
    assert (len(found.dialogues), found.num_empty) == (1, 4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"q": "q", "a": "a"}], r"row 0: neither .*KeyError: 'video_id'"),
        (
            [{"q": "q", "a": "a", "video_id": "v"}, {"q": 3, "a": "a", "video_id": "v"}],
            "row 1: .*3 is no text",
        ),
        ([conversation("q <video> q", "a")], "<video> stands elsewhere"),
        ([conversation("q", "a", "<video>\nq", "a")], "<video> stands elsewhere"),
        (
            [{"video": "v", "conversations": [{"from": "gpt", "value": "a"}]}],
            "turn 0 is from 'gpt'; allowed: 'human'",
        ),
        ({"q": "q"}, "row 0: neither"),
        ([], "no dialogue in"),
    ],
)
def test_a_file_of_another_form_is_refused_with_its_row(rows: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=message) as caught:
        read(tmp_path, rows)
    assert caught.value.param == "data.annotations"


@pytest.mark.parametrize("video", ["../v_a", "/etc/v_a.mp4", "train/../../v_a"])
def test_a_dialogue_cannot_name_a_video_outside_of_the_folder(video: str, tmp_path: Path) -> None:
    for row in ({"q": "q", "a": "a", "video_id": video}, conversation("<video> q", "a", video=video)):
        with pytest.raises(InvalidValueError, match=r"row 0: .* is not the name of a video below data\.root"):
            read(tmp_path, [row])


def test_a_file_that_is_no_json_is_no_wrong_row(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"a":')
    with pytest.raises(InvalidValueError, match=r"bad\.json: not JSON"):
        read_dialogues(InstructData(annotations=(str(tmp_path / "bad.json"),)))


def test_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="allowed: files that exist"):
        read_dialogues(InstructData(annotations=(str(tmp_path / "none.json"),)))


def test_videos_are_found_by_name_below_a_folder_and_the_rest_is_awaited_there(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for name in ("train/v_a.webm", "v_b.c.MP4", "v_d.txt"):
        (tmp_path / name).touch()
    places = find_videos(tmp_path)
    assert places == {"v_a": tmp_path / "train" / "v_a.webm", "v_b.c": tmp_path / "v_b.c.MP4"}
    dialogues = [VideoDialogue(name, (Exchange("q", "a 日本"),)) for name in ("v_a", "v_d")]
    clips = pack_dialogues(dialogues, places, tmp_path)
    assert [clips.source(n).path for n in (0, 1)] == [str(places["v_a"]), str(tmp_path / "v_d.mp4")]
    assert [VideoDialogue.unpacked(clips.captions_of(n)[0]) for n in (0, 1)] == dialogues
