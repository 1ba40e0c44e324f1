"""Annotation files and shards: which clips with which captions."""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bt_model.errors import InvalidValueError
from bt_model.training.data.clip_list import ClipList, ClipSource, PackedTexts, missing_files, read_clips
from bt_model.training.pretrain.settings import Format, PretrainData

EARLY = "videoid,name,page_idx,page_dir,duration,contentUrl"  # the file of 2.5 M clips
LATE = "videoid,contentUrl,duration,page_dir,name"  # of 10 M


def clips_of(kind: Format, *files: Path, work: Path | None = None, max_caption: int = 350) -> ClipList:
    given = tuple(str(file) for file in files)
    data = PretrainData(format=kind, annotations=given, root="/videos", max_caption=max_caption)
    return read_clips(data, work or files[0].parent)


def told(clips: ClipList) -> dict[str, list[str]]:
    return {clips.source(i).path: clips.captions_of(i) for i in range(len(clips))}


@pytest.mark.parametrize(
    ("header", "row"), [(EARLY, '7,"a, b",1,p/q,PT1S,url'), (LATE, '7,url,PT1S,p/q,"a, b"')]
)
def test_webvid_is_read_by_its_header_in_both_column_orders(tmp_path: Path, header: str, row: str) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"{header}\n{row}\n")
    assert told(clips_of("webvid", table)) == {"/videos/p/q/7.mp4": ["a, b"]}


def test_rows_without_a_caption_are_dropped_and_long_captions_cut(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"{LATE}\n1,u,d,p,\n2,u,d,p,nan\n3,u,d,p, {'x' * 400}\n4,u,d\n")
    assert told(clips_of("webvid", table)) == {"/videos/p/3.mp4": ["x" * 350]}


def test_a_table_without_webvids_columns_is_refused_by_name(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("id,caption\n1,a\n")
    with pytest.raises(InvalidValueError, match=r"a\.csv has the columns id, caption; allowed: .*videoid"):
        clips_of("webvid", table)


@pytest.mark.parametrize("line", [2, 40_000])
def test_a_table_that_is_not_utf8_is_refused_by_line_and_byte(tmp_path: Path, line: int) -> None:
    table = tmp_path / "a.csv"
    rows = [EARLY, *("1,a dog,1,p,PT1S,url" for _ in range(line - 2))]
    before = "".join(f"{row}\n" for row in rows).encode()
    table.write_bytes(before + "2,un café,1,p,PT1S,url\n".encode("latin-1"))
    with pytest.raises(InvalidValueError) as caught:
        clips_of("webvid", table)
    where = len(before) + len("2,un caf")
    assert caught.value.message.startswith(
        f"{table}, line {line}: byte 0xe9 at {where} is not UTF-8; allowed"
    )


def test_a_table_that_ends_within_a_character_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_bytes(f"{EARLY}\n2,caf".encode() + "é".encode()[:1])
    with pytest.raises(InvalidValueError, match=r"a\.csv, line 2: byte 0xc3 at \d+ is not UTF-8"):
        clips_of("webvid", table)


def test_a_table_may_begin_with_the_mark_of_its_encoding(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"{EARLY}\n7,a,1,p,PT1S,url\n", encoding="utf-8-sig")
    assert told(clips_of("webvid", table)) == {"/videos/p/7.mp4": ["a"]}


def test_a_table_that_is_no_csv_is_refused_by_line(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"{EARLY}\n7,{'a' * 200_000},1,p,PT1S,url\n")
    with pytest.raises(InvalidValueError, match=r"a\.csv, line 2: not CSV \(field larger"):
        clips_of("webvid", table)


@pytest.mark.parametrize(
    ("folder", "number"), [("../p", "7"), ("p", "../../7"), ("/etc", "7"), ("p", "/etc/7"), ("p/../..", "7")]
)
def test_a_table_cannot_leave_the_folder_of_the_clips(tmp_path: Path, folder: str, number: str) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"{EARLY}\n6,a,1,p,PT1S,url\n{number},b,1,{folder},PT1S,url\n")
    with pytest.raises(
        InvalidValueError, match=r"a\.csv, line 3: '.*7\.mp4' is not below data\.root, '/videos'"
    ):
        clips_of("webvid", table)


@pytest.mark.parametrize("video", ["../a.mp4", "/a.mp4", "a/../../videos2/b.mp4"])
def test_a_list_cannot_leave_the_folder_of_the_clips(tmp_path: Path, video: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"video": video, "caption": "x"}]))
    with pytest.raises(InvalidValueError, match=r"a\.json, row 0: '.*' is not below data\.root"):
        clips_of("vindlu", path)


def test_paths_that_stay_below_the_folder_may_be_absolute(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = [{"video": video, "caption": "x"} for video in ("/videos/a.mp4", "p/../b.mp4", "c..d.mp4")]
    path.write_text(json.dumps(rows))
    assert list(told(clips_of("vindlu", path))) == ["/videos/a.mp4", "/videos/p/../b.mp4", "/videos/c..d.mp4"]


def test_a_shards_names_reach_no_file(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "0.tar", {"../../etc/a.mp4": b"clip", "../../etc/a.txt": b"one"})
    clips = clips_of("webdataset", shard)
    assert told(clips) == {str(shard): ["one"]}
    source = clips.source(0)
    assert shard.read_bytes()[source.start :][: source.length] == b"clip"


def test_missing_files_are_counted_and_the_first_ones_named(tmp_path: Path) -> None:
    rows = [{"video": f"{n % 3}/{n}.mp4", "caption": "x"} for n in range(12)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for n in range(12):
        if n % 3 and n != 4:
            (tmp_path / str(n % 3)).mkdir(exist_ok=True)
            (tmp_path / str(n % 3) / f"{n}.mp4").touch()
    data = PretrainData(format="vindlu", annotations=(str(tmp_path / "a.json"),), root=str(tmp_path))
    missing = missing_files(read_clips(data, tmp_path))
    assert (missing.num, missing.of) == (5, 12)
    assert missing.first == tuple(str(tmp_path / name) for name in ("0/0.mp4", "0/3.mp4", "1/4.mp4"))


def test_vindlus_list_may_have_several_captions(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps([{"video": "a.mp4", "caption": "x"}, {"video": "b.mp4", "caption": ["y", "z"]}])
    )
    assert told(clips_of("vindlu", path)) == {"/videos/a.mp4": ["x"], "/videos/b.mp4": ["y", "z"]}


@pytest.mark.parametrize("text", ["{}", '[{"video": "a.mp4"}]', "[", '[{"video": "a.mp4", "caption": 3}]'])
def test_a_file_that_is_no_such_list_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=r"a\.json"):
        clips_of("vindlu", path)


def write_shard(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


MEMBERS = {
    "00/0001.mp4": b"first clip",
    "00/0001.txt": b"one",
    "00/0001.json": b'{"caption": ""}',
    "00/0002.json": json.dumps({"caption": "two"}).encode(),
    "00/0002.mp4": b"second",
    "00/0003.mp4": b"no caption",
    "00/0004.txt": b"no clip",
}


def test_a_shards_clips_are_where_the_index_says(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "0.tar", MEMBERS)
    clips = clips_of("webdataset", shard)
    data = shard.read_bytes()
    found = {}
    for i in range(len(clips)):
        source = clips.source(i)
        found[data[source.start : source.start + source.length]] = clips.captions_of(i)
    assert found == {b"first clip": ["one"], b"second": ["two"]}


@pytest.mark.parametrize("ending", ["mp4", "webm", "mkv", "avi"])
def test_clips_of_every_container_are_found_in_a_shard(tmp_path: Path, ending: str) -> None:
    shard = write_shard(tmp_path / "0.tar", {f"1.{ending}": b"clip", "1.txt": b"one"})
    assert clips_of("webdataset", shard).captions_of(0) == ["one"]


def test_shards_are_looked_through_once_and_again_when_they_changed(tmp_path: Path) -> None:
    shards = [write_shard(tmp_path / f"{n}.tar", MEMBERS) for n in range(2)]
    before = told(clips_of("webdataset", tmp_path / "*.tar", work=tmp_path))
    index = tmp_path / "shards.jsonl"
    assert len(index.read_text().splitlines()) == 2
    index.write_text(index.read_text().replace('"two"', '"from the index"') + '[["cut off')
    again = clips_of("webdataset", tmp_path / "*.tar", work=tmp_path)
    assert set(before) == {str(shard) for shard in shards}
    assert again.captions_of(1) == ["from the index"]
    write_shard(shards[0], {**MEMBERS, "00/0002.json": b'{"caption": "three"}'})
    assert clips_of("webdataset", tmp_path / "*.tar", work=tmp_path).captions_of(1) == ["three"]


def test_a_file_that_is_no_tar_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"x" * 2000)
    with pytest.raises(InvalidValueError, match=r"0\.tar: not a tar file"):
        clips_of("webdataset", tmp_path / "0.tar")


def test_annotations_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidValueError, match=r"data\.annotations is .*none\.csv.*allowed: files that exist"
    ):
        clips_of("webvid", tmp_path / "none.csv")


def test_annotations_without_a_clip_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text(f"{EARLY}\n")
    with pytest.raises(InvalidValueError, match="no clip with a caption"):
        clips_of("webvid", table)


def test_packed_texts_come_back_as_they_were() -> None:
    texts = ["", "a", "ü€", "\ud800", "x" * 1000, ""]
    packed = PackedTexts(texts)
    assert [packed[i] for i in range(len(packed))] == texts


def test_a_source_comes_back_from_its_spelling() -> None:
    source = ClipSource("/a:b/c.tar", 512, 77)
    assert ClipSource.unpacked(source.packed()) == source
    assert ClipSource.unpacked(replace(source, start=0, length=0).packed()).path == "/a:b/c.tar"
