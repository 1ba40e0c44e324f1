"""Each list is read back as the loaders of its data set read it."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lab.shapes.events import PulsePair
from lab.shapes.exports.caption_lists import (
    CLASSES,
    class_of,
    write_caption_list,
    write_msrvtt,
    write_recognition,
    write_webvid,
)
from lab.shapes.exports.files import ClipFile, Written
from lab.shapes.exports.question_lists import (
    write_activitynet_qa,
    write_benchmark,
    write_one_word_qa,
    write_videochatgpt,
)
from lab.shapes.questions import questions
from lab.shapes.scene import COLOURS


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def entries_of(written: Written) -> Any:
    entries = json.loads(written.path.read_text())
    assert len(entries) == written.num_entries
    return entries


def number_of(path: Path) -> int:
    """What the fixture wrote into the clip."""
    return int(path.read_text())


def test_webvid_rows_lead_to_their_clips_and_captions(tmp_path: Path, clips: list[ClipFile]) -> None:
    for written in write_webvid(tmp_path / "webvid", clips, seed=0):
        rows = rows_of(written.path)
        assert len(rows) == written.num_entries == len(clips)
        for number, row in enumerate(rows):
            path = tmp_path / "webvid" / "videos" / row["page_dir"] / f"{row['videoid']}.mp4"
            assert number_of(path) == number
            assert clips[number].scene.background in row["name"].split()


def test_webvid_columns_stand_where_the_published_readers_look(tmp_path: Path, clips: list[ClipFile]) -> None:
    short, long = write_webvid(tmp_path, clips, seed=0, part="val")
    assert short.path.name == "results_2M_val.csv"
    assert long.path.name == "results_10M_val.csv"
    for written, caption, folder in ((short, 1, 3), (long, 4, 3)):
        header, *lines = csv.reader(written.path.read_text().splitlines())
        assert (header[0], header[caption], header[folder]) == ("videoid", "name", "page_dir")
        assert all(line[folder] == "000001_001000" and line[0].isdigit() for line in lines)
    assert [row["name"] for row in rows_of(short.path)] == [row["name"] for row in rows_of(long.path)]


def test_webvid_captions_are_the_same_for_equal_seeds_only(tmp_path: Path, clips: list[ClipFile]) -> None:
    texts = [
        write_webvid(tmp_path / str(number), clips, seed=seed)[0].path.read_text()
        for number, seed in enumerate((0, 0, 1))
    ]
    assert texts[0] == texts[1] != texts[2]


def test_a_caption_list_holds_one_text_or_several(tmp_path: Path, clips: list[ClipFile]) -> None:
    one = entries_of(write_caption_list(tmp_path / "one.json", clips, seed=0))
    two = entries_of(write_caption_list(tmp_path / "two.json", clips, seed=0, num_captions=2))
    assert len(one) == len(two) == len(clips)
    for clip, single, several in zip(clips, one, two, strict=True):
        assert clip.path.parent / single["video"] == clip.path
        assert isinstance(single["caption"], str)
        assert len(several["caption"]) == 2


def test_instructions_name_their_clips_and_answer_in_sentences(tmp_path: Path, clips: list[ClipFile]) -> None:
    rows = entries_of(write_videochatgpt(tmp_path, clips, seed=0)[0])
    for row in rows:
        assert row.keys() == {"q", "a", "video_id"}
        assert (tmp_path / "videos" / f"{row['video_id']}.mp4").exists()
        assert row["a"][0].isupper()
        assert row["a"].endswith(".")
    counts = Counter(row["video_id"] for row in rows)
    assert counts.keys() == {f"v_{clip.path.stem}" for clip in clips}
    assert max(counts.values()) == 8


def test_every_temporal_question_is_among_the_instructions(tmp_path: Path, clips: list[ClipFile]) -> None:
    rows = entries_of(write_videochatgpt(tmp_path, clips, seed=0, most=4)[0])
    for clip in clips:
        asked = [q for q in questions(clip.scene, clip.rng(0, "instruction")) if q.is_temporal]
        pairs_of_clip = {(row["q"], row["a"]) for row in rows if row["video_id"] == f"v_{clip.path.stem}"}
        assert {(question.text, question.sentence) for question in asked} <= pairs_of_clip
        assert len(pairs_of_clip) == 4


def test_conversations_ask_before_and_after_the_video_in_turns(tmp_path: Path, clips: list[ClipFile]) -> None:
    rows, talks = map(entries_of, write_videochatgpt(tmp_path, clips, seed=0))
    for number, (row, talk) in enumerate(zip(rows, talks, strict=True)):
        human, gpt = talk["conversations"]
        order = ("<video>", row["q"]) if number % 2 else (row["q"], "<video>")
        assert human == {"from": "human", "value": "\n".join(order)}
        assert gpt == {"from": "gpt", "value": row["a"]}
        assert (talk["id"], talk["video"]) == (row["video_id"], f"{row['video_id']}.pkl")


@pytest.mark.parametrize("held_out", [False, True])
def test_msrvtt_has_one_sentence_a_video_in_both_files(
    tmp_path: Path, clips: list[ClipFile], held_out: bool
) -> None:
    table, listed = write_msrvtt(tmp_path, clips, seed=0, held_out=held_out)
    rows = rows_of(table.path)
    assert table.path.read_text().startswith("key,vid_key,video_id,sentence\n")
    assert len(rows) == table.num_entries == len(clips)
    assert entries_of(listed) == {f"{row['video_id']}.mp4": [row["sentence"]] for row in rows}
    for number, row in enumerate(rows):
        assert number_of(tmp_path / "videos" / f"{row['video_id']}.mp4") == number


def test_both_wordings_of_msrvtt_lie_side_by_side(tmp_path: Path, clips: list[ClipFile]) -> None:
    write_msrvtt(tmp_path, clips, seed=0)
    write_msrvtt(tmp_path, clips, seed=0, held_out=True)
    usual, other = (rows_of(tmp_path / f"MSRVTT_JSFUSION_test{end}.csv") for end in ("", "_templates"))
    assert not {row["sentence"] for row in usual} & {row["sentence"] for row in other}


def test_recognition_lists_agree_with_what_happens(tmp_path: Path, clips: list[ClipFile]) -> None:
    names, kinetics, hmdb = write_recognition(tmp_path, clips)
    classes = names.path.read_text().splitlines()
    moving = [clip for clip in clips if clip.scene.event.kind != "still"]
    spaced = [line.split(" ") for line in kinetics.path.read_text().splitlines()]
    tabbed = [line.split("\t") for line in hmdb.path.read_text().splitlines()]
    assert len(spaced) == len(tabbed) == kinetics.num_entries == hmdb.num_entries == len(moving)
    for clip, (path, label), (same, next_label) in zip(moving, spaced, tabbed, strict=True):
        assert clip.path.parent / path == clip.path.parent / same == clip.path
        assert classes[int(label)] == classes[int(next_label) - 1] == class_of(clip.scene)


def test_class_names_are_different_and_twins_are_of_different_classes(clips: list[ClipFile]) -> None:
    assert len(set(CLASSES)) == len(CLASSES) == 8 + 6 + 2 + len(COLOURS) + 4 + 12
    for clip in clips:
        is_still = clip.scene.event.kind == "still"
        assert (class_of(clip.scene) == class_of(clip.scene.twin())) == is_still


def test_an_order_is_of_the_class_that_tells_its_events_in_order(clips: list[ClipFile]) -> None:
    event = next(clip.scene.event for clip in clips if clip.scene.event.kind == "order")
    assert isinstance(event, PulsePair)
    scene = next(clip.scene for clip in clips if clip.scene.event == event)
    assert class_of(scene) == f"{event.first.name}s then {event.second.name}s"


def test_the_benchmark_asks_about_every_clip(tmp_path: Path, clips: list[ClipFile]) -> None:
    generic, temporal, consistency = map(entries_of, write_benchmark(tmp_path, clips, seed=0))
    everyone = {f"v_{clip.path.stem}" for clip in clips}
    assert {entry["video_name"] for entry in generic} == everyone
    assert {entry["video_name"] for entry in consistency} == everyone
    moving = {f"v_{clip.path.stem}" for clip in clips if clip.scene.event.kind != "still"}
    assert {entry["video_name"] for entry in temporal} == moving
    for entry in (*generic, *temporal):
        assert entry.keys() == {"video_name", "Q", "A"}
        assert (tmp_path / "Test_Videos" / f"{entry['video_name']}.mp4").exists()


def test_a_consistency_pair_asks_one_thing_in_two_wordings(tmp_path: Path, clips: list[ClipFile]) -> None:
    pairs = entries_of(write_benchmark(tmp_path, clips, seed=0)[2])
    for clip, pair in zip(clips, pairs, strict=True):
        assert pair.keys() == {"video_name", "Q1", "Q2", "A"}
        assert pair["Q1"] != pair["Q2"]
        usual, other = (
            {q.text: q for q in questions(clip.scene, clip.rng(0, "consistency"), held_out=held_out)}
            for held_out in (False, True)
        )
        first, second = usual[pair["Q1"]], other[pair["Q2"]]
        assert (first.kind, first.answer) == (second.kind, second.answer)


def test_answers_of_one_word_are_one_word(tmp_path: Path, clips: list[ClipFile]) -> None:
    msvd = entries_of(write_one_word_qa(tmp_path / "msvd", clips, "MSVD", seed=0))
    msrvtt = entries_of(write_one_word_qa(tmp_path / "msrvtt", clips, "MSRVTT", seed=0))
    assert [entry["question_id"] for entry in msvd] == list(range(len(msvd)))
    assert [entry["id"] for entry in msrvtt] == list(range(len(msrvtt)))
    for entry, folder, name in (
        *((entry, "msvd", entry["video_name"]) for entry in msvd),
        *((entry, "msrvtt", entry["video"]) for entry in msrvtt),
    ):
        assert len(entry) == 4
        assert len(entry["answer"].split()) == 1
        assert (tmp_path / folder / "videos" / f"{name}.mp4").exists()


def test_activitynet_questions_and_answers_agree_by_position_and_by_id(
    tmp_path: Path, clips: list[ClipFile]
) -> None:
    asked, answers = map(entries_of, write_activitynet_qa(tmp_path, clips, seed=0))
    assert len(asked) == len(answers)
    assert len({entry["question_id"] for entry in asked}) == len(asked)
    true = [q for clip in clips for q in questions(clip.scene, clip.rng(0, "activitynet"))]
    for question, answer, expected in zip(asked, answers, true, strict=True):
        assert question["question_id"] == answer["question_id"]
        assert (tmp_path / "videos" / f"v_{question['video_name']}.mp4").exists()
        assert (question["question"], answer["answer"]) == (expected.text, expected.answer)
        assert answer["type"] in range(9)


def test_a_clip_and_its_twin_are_asked_the_same(tmp_path: Path, clips: list[ClipFile]) -> None:
    asked, _ = map(entries_of, write_activitynet_qa(tmp_path, clips, seed=0))
    by_clip = [[e["question"] for e in asked if e["video_name"] == clip.path.stem] for clip in clips]
    for number in range(1, len(clips), 3):
        assert by_clip[number] == by_clip[number - 1]
