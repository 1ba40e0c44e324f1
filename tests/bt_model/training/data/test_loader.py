"""Batches by step: the same from any step on, whatever cannot be read on the way."""

import csv
import sys
import tarfile
import threading
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch

from bt_model.errors import EngineError, TrainingError
from bt_model.training.data.clip_list import read_clips
from bt_model.training.data.loader import ClipLoader
from bt_model.training.pretrain.run import loader_of, pretrain
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.pretrain.step import PretrainBatch, towers_of
from bt_model.training.trainer.log import read_rows
from bt_model.training.trainer.parallel import Rank, World
from tests.bt_model.training.clips import NUM_CLIPS, Corpus


@contextmanager
def loading(
    settings: PretrainSettings, work: Path, world: World | None = None
) -> Generator[ClipLoader[PretrainBatch]]:
    clips = read_clips(settings.data, work)
    loader = loader_of(clips, settings, work, world or World(), towers_of(settings.model))
    with closing(loader):
        yield loader


def batches(settings: PretrainSettings, work: Path, steps: range, world: World | None = None) -> list[Any]:
    with loading(settings, work, world) as loader:
        return [loader.batch(step, part) for step in steps for part in range(settings.optimiser.accumulate)]


def same(a: PretrainBatch, b: PretrainBatch) -> bool:
    assert a.masks.visible is not None
    assert b.masks.visible is not None
    pairs = (
        (a.clips, b.clips),
        (a.captions.ids, b.captions.ids),
        (a.captions.group, b.captions.group),
        (a.masks.visible, b.masks.visible),
    )
    return all(torch.equal(x, y) for x, y in pairs) and a.num_skipped == b.num_skipped


def damaged(corpus: Corpus, folder: Path, count: int) -> Corpus:
    """The same corpus, with that many clips whose files are no videos."""
    copy = Corpus(Path(copytree(corpus.folder, folder)))
    for path in sorted(copy.webvid.rglob("*.mp4"))[:count]:
        path.unlink()
        path.write_bytes(b"no video")
    return copy


def test_batches_are_the_same_from_any_step_on(corpus: Corpus, tmp_path: Path) -> None:
    settings = corpus.settings({"optimiser": {"accumulate": 2}})
    whole = batches(settings, tmp_path / "a", range(5))
    later = batches(settings, tmp_path / "b", range(3, 5))
    assert all(same(a, b) for a, b in zip(whole[6:], later, strict=True))
    assert not same(whole[0], whole[6])


def test_a_jump_to_another_step_ends_what_was_read_ahead(corpus: Corpus, tmp_path: Path) -> None:
    with loading(corpus.settings(), tmp_path) as loader:
        for step in (0, 4, 2):
            loader.batch(step)
            assert [thread.name for thread in threading.enumerate()].count("clips") == 1


def test_two_ranks_see_the_halves_of_what_one_sees(corpus: Corpus, tmp_path: Path) -> None:
    settings = corpus.settings()
    (whole,) = batches(settings, tmp_path, range(1))
    for rank in (0, 1):
        (half,) = batches(settings, tmp_path, range(1), World(rank, 2))
        rows = slice(2 * rank, 2 * rank + 2)
        assert torch.equal(half.clips, whole.clips[rows])
        assert torch.equal(half.captions.ids, whole.captions.ids[rows])
        assert torch.equal(half.masks.visible, whole.masks.visible[rows])


def test_the_other_seed_draws_other_boxes_captions_and_masks(corpus: Corpus, tmp_path: Path) -> None:
    (a,), (b,) = (
        batches(corpus.settings({"run": {"seed": seed}}), tmp_path / str(seed), range(1)) for seed in (0, 1)
    )
    assert not torch.equal(a.clips, b.clips)
    assert not torch.equal(a.masks.visible, b.masks.visible)


def test_clips_for_tests_are_cut_in_their_middle_whatever_the_seed(corpus: Corpus, tmp_path: Path) -> None:
    central = {"data": {"crop": "centre"}, "optimiser": {"batch": NUM_CLIPS}}
    pixels = list[torch.Tensor]()
    for seed in (0, 1):
        (batch,) = batches(corpus.settings(central, {"run": {"seed": seed}}), tmp_path / str(seed), range(1))
        pixels.append(torch.stack(sorted(batch.clips, key=lambda clip: clip.flatten().tolist())))
    assert torch.equal(*pixels)


def test_broken_clips_are_replaced_counted_and_remembered(corpus: Corpus, tmp_path: Path) -> None:
    settings = damaged(corpus, tmp_path / "corpus", 3).settings({"data": {"max_broken": 1.0}})
    first = batches(settings, tmp_path / "work", range(6))
    again = batches(settings, tmp_path / "work", range(6))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert sum(batch.num_skipped for batch in first[:3]) >= 3  # an epoch shows each of them once
    assert len((tmp_path / "work" / "broken-0.jsonl").read_text().splitlines()) == 3


def test_a_run_skips_broken_clips_and_says_so_in_its_log(corpus: Corpus, tmp_path: Path) -> None:
    settings = damaged(corpus, tmp_path / "corpus", 2).settings({"run": {"steps": 3}})
    pretrain(settings, tmp_path / "work", Rank())
    skipped = [row["skipped"] for row in read_rows(tmp_path / "work" / "pretrain.csv")]
    assert len(skipped) == 3
    assert sum(skipped) >= 2


def test_too_many_broken_clips_end_the_run_with_the_reason(corpus: Corpus, tmp_path: Path) -> None:
    settings = damaged(corpus, tmp_path / "corpus", 6).settings({"optimiser": {"epochs": 100}})
    with pytest.raises(
        TrainingError, match=r"clips cannot be read, .*data\.max_broken allows 5\.0%; .*\.mp4"
    ):
        batches(settings, tmp_path / "work", range(300))


def test_a_corpus_of_broken_clips_ends_the_run_at_once(corpus: Corpus, tmp_path: Path) -> None:
    settings = damaged(corpus, tmp_path / "corpus", NUM_CLIPS).settings()
    with pytest.raises(TrainingError, match=r"50 clips in a row cannot be read; the last: .*\.mp4: "):
        batches(settings, tmp_path / "work", range(1))


def test_children_that_do_not_start_end_the_run(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="do not start"):
        batches(corpus.settings(), tmp_path, range(1))


def test_the_list_of_vindlu_leads_to_the_same_clips(corpus: Corpus, tmp_path: Path) -> None:
    train = corpus.folder / "clips" / "train"
    listed = {
        "format": "vindlu",
        "annotations": [str(train / "umt" / "train.json")],
        "root": str(train / "clips"),
    }
    (ours,) = batches(corpus.settings({"data": listed}), tmp_path / "a", range(1))
    (webvid,) = batches(corpus.settings(), tmp_path / "b", range(1))
    assert torch.equal(ours.clips, webvid.clips)


def test_shards_lead_to_the_same_clips_and_captions(corpus: Corpus, tmp_path: Path) -> None:
    with corpus.table.open(newline="") as file, tarfile.open(tmp_path / "0.tar", "w") as tar:
        for row in csv.DictReader(file):
            tar.add(
                corpus.webvid / "videos" / row["page_dir"] / f"{row['videoid']}.mp4", f"{row['videoid']}.mp4"
            )
            (tmp_path / "caption").write_text(row["name"])
            tar.add(tmp_path / "caption", f"{row['videoid']}.txt")
    shards = {"format": "webdataset", "annotations": [str(tmp_path / "*.tar")]}
    ours = batches(corpus.settings({"data": shards}), tmp_path / "a", range(2))
    webvid = batches(corpus.settings(), tmp_path / "b", range(2))
    assert all(same(a, b) for a, b in zip(ours, webvid, strict=True))
