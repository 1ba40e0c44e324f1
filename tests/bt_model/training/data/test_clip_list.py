"""Annotation files and shards: which clips with which captions."""

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from bt_model.errors import InvalidValueError
from bt_model.training.data.clip_list import ClipList, PackedTexts, Source, read_clips
from bt_model.training.pretrain.config import DataSettings, Format

EARLY = "videoid,name,page_idx,page_dir,duration,contentUrl"  # the file of 2.5 M clips
LATE = "videoid,contentUrl,duration,page_dir,name"  # of 10 M


def clips_of(kind: Format, *files: Path, work: Path | None = None, max_caption: int = 350) -> ClipList:
    given = tuple(str(file) for file in files)
    data = DataSettings(format=kind, annotations=given, root="/videos", max_caption=max_caption)
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
    source = Source("/a:b/c.tar", 512, 77)
    assert Source.read(source.spelt()) == source
    assert Source.read(replace(source, start=0, length=0).spelt()).path == "/a:b/c.tar"
