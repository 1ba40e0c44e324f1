"""The captioner of `loss.caption`: how captions are spelled, what is refused, what a run gets of it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.errors import InvalidValueError, UnknownNameError
from bt_model.generation.request import Soft, Tokens
from bt_model.prompt.layout import PlacedVideo
from bt_model.prompt.segments import segments
from bt_model.training.data.clip_list import read_clips
from bt_model.training.data.tokens import IGNORED
from bt_model.training.objectives.captioner import Captioner
from bt_model.training.plan import PretrainPlan
from bt_model.training.presets import preset
from bt_model.training.pretrain import run
from bt_model.training.pretrain.captioner import (
    CaptionTokenizer,
    caption_tokenizer,
    captioner_file,
    load_captioner,
)
from bt_model.training.pretrain.cost import flops_per_clip, kept_bytes_per_clip
from bt_model.training.pretrain.run import compile_step, loader_of, pretrain
from bt_model.training.pretrain.settings import PretrainSettings
from bt_model.training.pretrain.step import fresh_step, towers_of
from bt_model.training.settings import plain, settings_from
from bt_model.training.trainer.log import read_rows
from bt_model.training.trainer.parallel import Rank, World
from bt_model.types import Turn
from bt_model.vision.encoder import VideoEncoder
from tests import tiny
from tests.bt_model.training.clips import Corpus
from tests.bt_model.training.ranks import run_ranks, write_run

pytestmark = pytest.mark.usefixtures("forked_ranks")

MODEL = "tiny/embedded-zeroshot.model.json"
REQUEST = "what is it?"


def captioned(corpus: Corpus, **changed: Any) -> PretrainSettings:
    """A small run whose last steps see every patch."""
    layer = {
        "model": {"captioner": str(corpus.folder / MODEL)},
        "loss": {"caption": 2.0, "anchor": 1.0, "chat": 0.5, "request": REQUEST},
        "mask": {"unmasked": 0.5},
        "optimiser": {"epochs": 2, "rate": 3e-4, "clip_norm": 1.0, "eps": 1e-6},
        "run": changed,
    }
    return corpus.settings(layer)


def tokenizer(corpus: Corpus, request: str = REQUEST) -> CaptionTokenizer:
    settings = settings_from(PretrainSettings, plain(captioned(corpus)), {"loss": {"request": request}})
    return caption_tokenizer(settings, towers_of(settings.model).vision)


def model_of(settings: PretrainSettings) -> Captioner:
    return load_captioner(settings, fresh_step(settings, towers_of(settings.model)).encoder.tower)


def test_a_caption_is_the_answer_to_the_request_as_serving_spells_it(corpus: Corpus) -> None:
    captions = tokenizer(corpus)
    speller, batch = captions.speller, captions.batch(["a red circle", "blue"])
    video = PlacedVideo(Soft(b"", torch.empty(captions.num_video, 0)))
    prompt = segments([Turn("user", REQUEST)], speller.style, speller.ids, speller.encode, [video])
    head, tail = (part.ids for part in prompt if isinstance(part, Tokens))
    begin = len(head) + captions.num_video + len(tail)
    for row, caption in enumerate(("a red circle", "blue")):
        expected = [*speller.encode(f" {caption}").ids, speller.ids.eos]
        labels = batch.labels[row]
        assert labels[begin : begin + len(expected)].tolist() == expected
        assert int((labels != IGNORED).sum()) == len(expected) == int(batch.num_answer_tokens[row])
        assert int(batch.is_video[row].sum()) == captions.num_video


def test_a_caption_that_the_context_does_not_hold_loses_its_end(corpus: Corpus) -> None:
    captions = tokenizer(corpus)
    batch = captions.batch(["red " * 2000, "blue"])
    assert batch.ids.shape[1] == captions.max_length
    assert batch.num_answer_tokens.all()


def test_a_request_that_leaves_no_room_is_refused(corpus: Corpus) -> None:
    with pytest.raises(InvalidValueError, match=r"loss\.request is 'red .*; allowed: one that leaves room"):
        tokenizer(corpus, "red " * 2000)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pooling": "patches"}, "pooling patches.*; allowed: pooling patches_cls"),
        ({"select_layer": -1}, "select_layer -1.*; allowed: select_layer -2"),
        ({"backend": "echo"}, "of the backend 'echo'; allowed: llava"),
    ],
)
def test_a_chat_model_that_reads_something_else_is_refused(
    corpus: Corpus, change: dict[str, Any], said: str
) -> None:
    file = json.loads((corpus.folder / MODEL).read_text())
    other = corpus.folder / "tiny" / "other.model.json"
    other.write_text(json.dumps({**file, **change, "id": "other"}))
    settings = captioned(corpus)
    values = plain(settings)
    values["model"]["captioner"] = str(other)
    with pytest.raises(InvalidValueError, match=rf"model\.captioner is .*{said}"):
        captioner_file(settings_from(PretrainSettings, values))


def test_a_chat_model_over_another_tower_is_refused(corpus: Corpus) -> None:
    settings = captioned(corpus)
    copy = corpus.folder / "copy"
    copy.symlink_to(corpus.clip)  # the same tower at another place is the same
    values = plain(settings)
    values["model"]["clip"] = str(copy)
    elsewhere = settings_from(PretrainSettings, values)
    assert isinstance(model_of(elsewhere), Captioner)
    copy.unlink()
    copy.mkdir()
    for file in corpus.clip.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    tower = fresh_step(elsewhere, towers_of(elsewhere.model)).encoder.tower
    assert isinstance(load_captioner(elsewhere, tower), Captioner)
    with torch.no_grad():
        tower.post_layernorm.weight.add_(1)  # what no chat model reads
    assert isinstance(load_captioner(elsewhere, tower), Captioner)
    with torch.no_grad():
        next(tower.parameters()).add_(1)
    with pytest.raises(InvalidValueError, match=r"model\.captioner reads .*one over the same weights"):
        load_captioner(elsewhere, tower)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss": {"caption": 1.0}}, r"model\.captioner is ''; allowed: a model file, since loss\.caption"),
        ({"model": {"captioner": "a"}}, r"model\.captioner is 'a'; allowed: '', since loss\.caption is 0"),
        ({"loss": {"anchor": 1.0}, "mask": {"layout": "published"}}, r"loss\.anchor is 1\.0; .*mask\.layout"),
        ({"loss": {"chat": 1.0}, "model": {"layers": 1}}, r"loss\.chat is 1\.0; .*leaves none for chat"),
        ({"loss": {"anchor": -1.0}}, r"loss\.anchor is -1\.0; allowed: a number, 0 or more"),
        ({"loss": {"request": " "}}, r"loss\.request is ' '; allowed: a sentence"),
        ({"mask": {"unmasked": 1.5}}, r"mask\.unmasked is 1\.5; allowed: a number, 0 to 1"),
        (
            {"loss": {"mbta": 0.0, "mbca": 0.0, "chat": 1.0}, "mask": {"rate": 0.0},
             "model": {"kind": "joint_st"}},
            r"loss\.chat is 1\.0; allowed: 0, but for a branch",
        ),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        settings_from(PretrainSettings, values)


def test_the_preset_is_half_hidden_with_an_unmasked_end_and_needs_a_captioner() -> None:
    given = settings_from(PretrainSettings, preset("pretrain", "captioned"))
    assert (given.mask.rate, given.mask.unmasked, given.mask.layout) == (0.5, 0.2, "tube")
    assert (given.loss.caption, given.loss.anchor, given.loss.chat) == (10.0, 1.0, 0.0)
    assert given.model.captioner


def test_a_run_tells_every_loss_and_leaves_the_captioner_as_it_was(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, used = captioned(corpus), list[Captioner]()

    def kept(*arguments: Any) -> Captioner:
        used.append(load_captioner(*arguments))
        return used[-1]

    monkeypatch.setattr(run, "load_captioner", kept)
    pretrain(settings, tmp_path, Rank())
    rows = read_rows(tmp_path / "pretrain.csv")
    assert len(rows) == 6
    for row in rows:
        parts = [row[name] for name in ("vtc", "mbta", "mbca", "chat", "caption", "anchor")]
        assert all(part > 0 for part in parts)
        assert row["loss"] == pytest.approx(sum(parts), rel=1e-5)
    (captioner,) = used
    assert fingerprint(captioner.state_dict()) == fingerprint(model_of(settings).state_dict())
    assert (tmp_path / "bt_adapter.safetensors").is_file()


def test_the_end_of_a_run_hides_nothing(corpus: Corpus, tmp_path: Path) -> None:
    settings, world = captioned(corpus), World(0, 1, torch.device("cpu"))
    towers = towers_of(settings.model)
    loader = loader_of(read_clips(settings.data, tmp_path), settings, tmp_path, world, towers)
    try:
        masks = [loader.batch(step).masks.visible for step in range(6)]
    finally:
        loader.close()
    assert [visible is None for visible in masks] == [False, False, False, True, True, True]


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_what_is_computed_again_gives_the_same_losses(corpus: Corpus, tmp_path: Path, precision: str) -> None:
    losses = list[list[float]]()
    for again in (False, True):
        work = tmp_path / str(again)
        pretrain(captioned(corpus, precision=precision, recompute=again, steps=2), work, Rank())
        losses.append([row["loss"] for row in read_rows(work / "pretrain.csv")])
    assert losses[0] == losses[1]


def test_what_is_compiled_is_what_is_called(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, called = list[torch.nn.Module](), list[torch.nn.Module]()

    def remember(module: torch.nn.Module) -> None:
        compiled.append(module)

    monkeypatch.setattr(torch.nn.Module, "compile", remember)
    step = fresh_step(captioned(corpus), towers_of(captioned(corpus).model))
    compile_step(step)
    assert isinstance(step.encoder, VideoEncoder)
    for module in compiled:
        module.register_forward_hook(lambda module, *_: called.append(module))
    side = step.encoder.tower.config.image_size
    states = tiny.trunk_states(step.encoder, torch.zeros(1, 4, 3, side, side))
    step.encoder.both_from_trunk(states)
    assert [id(step.encoder.tower), id(step.encoder.adapter)] == [id(module) for module in called]


def test_a_captioner_that_is_not_there_is_named_and_a_plan_assumes_one(corpus: Corpus) -> None:
    values = plain(captioned(corpus))
    values["model"] |= {"captioner": "nowhere", "weights": str(corpus.folder)}
    settings = settings_from(PretrainSettings, values)
    with pytest.raises(UnknownNameError, match=r"model\.captioner: model is 'nowhere'; built in and under"):
        captioner_file(settings)
    towers = towers_of(settings.model)
    told = PretrainPlan(settings, towers, num_clips=12).describe()
    assert told["frozen parameters"] > 6e9
    assert flops_per_clip(settings, towers) > 1e12


def test_two_processes_are_one(corpus: Corpus, tmp_path: Path) -> None:
    names = ("loss", "vtc", "mbta", "mbca", "chat", "caption", "anchor", "grad_norm")
    settings = captioned(corpus)
    pretrain(settings, tmp_path / "one", Rank())
    for parallel in ("ddp", "fsdp"):
        work = tmp_path / parallel
        run_ranks(write_run, 2, work, plain(settings), parallel)
        one, two = (
            torch.tensor([[row[name] for name in names] for row in read_rows(folder / "pretrain.csv")])
            for folder in (tmp_path / "one", work)
        )
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)


def test_an_unmasked_end_costs_what_its_share_of_steps_costs(corpus: Corpus) -> None:
    def flops(share: float, rate: float = 0.5) -> float:
        values = plain(corpus.settings({"mask": {"rate": rate, "unmasked": share}}))
        settings = settings_from(PretrainSettings, values)
        return flops_per_clip(settings, towers_of(settings.model))

    assert flops(1.0) == flops(0.0, rate=0.0) > flops(0.0)
    assert flops(0.25) == pytest.approx(0.75 * flops(0.0) + 0.25 * flops(1.0))


def test_the_plan_counts_the_captioner(corpus: Corpus) -> None:
    settings = captioned(corpus)
    alone = corpus.settings({"mask": {"unmasked": 0.5}})
    towers = towers_of(settings.model)
    assert flops_per_clip(settings, towers) > flops_per_clip(alone, towers)
    assert kept_bytes_per_clip(settings, towers) > kept_bytes_per_clip(alone, towers)
