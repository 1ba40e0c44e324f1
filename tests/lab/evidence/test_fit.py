"""Rows of the grid on tiny parts: what each trains, what it is asked, and that seeds decide everything."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.training.pretrain.settings import MaskSettings
from bt_model.vision.build import build_encoder
from lab.clips import CachedClips, load_clips
from lab.evidence.bench import Bench, StudySize
from lab.evidence.examine import examine
from lab.evidence.fit import fit
from lab.evidence.results import Result
from lab.evidence.rows import ROWS, Row, row
from lab.model import EmbeddedModel
from lab.shapes.events import REVERSIBLE
from lab.shapes.splits import scenes
from tests import tiny

T = 8
SIZE = StudySize(
    num_clips=8, num_test=1, num_headline=1, num_frames=T,
    pretrain_steps=2, pretrain_batch=4, instruct_steps=2, instruct_batch=4,
)  # fmt: skip
EVERY = [each.name for each in ROWS]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[CachedClips, CachedClips]:
    folder = tmp_path_factory.mktemp("clips")
    tower = tiny.tower()
    models = [build_encoder(each.model, tower) for each in ROWS]
    train = scenes("train", SIZE.num_clips, seed=1, kinds=REVERSIBLE)
    test = scenes("test_combo", len(REVERSIBLE), seed=2, kinds=REVERSIBLE)
    return load_clips(folder, "train", train, models, T), load_clips(folder, "test", test, models, T)


@pytest.fixture
def bench(model: EmbeddedModel, corpora: tuple[CachedClips, CachedClips]) -> Bench:
    long = replace(model.plan.llama, max_context=512)  # every patch of every frame
    longer = replace(model, plan=replace(model.plan, llama=long))
    return Bench(longer, model.baseline, SIZE, *corpora, corpora[1], "float32")


def frozen(bench: Bench) -> str:
    model = bench.model
    parts = {
        "tower": model.tower,
        "text": model.text,
        "lm": model.image.lm,
        "projector": model.image.projector,
    }
    return fingerprint({f"{n}.{k}": t for n, part in parts.items() for k, t in part.state_dict().items()})


def weights(fitted_encoder: torch.nn.Module) -> str:
    return fingerprint(fitted_encoder.state_dict())


@pytest.mark.parametrize("name", EVERY)
def test_a_row_trains_its_own_parts_and_nothing_that_is_shared(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    before = frozen(bench)
    fitted = fit(row(name), 0, bench, tmp_path)
    assert frozen(bench) == before
    if fitted.row.training == "none":
        assert fitted.num_trainable == 0
        return
    fresh = fit(replace(fitted.row, name="fresh"), 0, replace(bench, size=replace(SIZE, pretrain_steps=0,
                instruct_steps=0)), tmp_path)  # fmt: skip
    if fitted.row.model.kind != "clip":
        assert weights(fitted.encoder) != weights(fresh.encoder)
    assert fitted.num_trainable > 0


@pytest.mark.parametrize("name", ["bt-adapter", "balanced", "tuned-joint-st", "tuned-st-pooling"])
def test_a_row_is_asked_everything_that_it_can_answer(bench: Bench, tmp_path: Path, name: str) -> None:
    fitted = fit(row(name), 0, bench, tmp_path)
    result = examine(fitted, bench, is_headline=False, with_controls=name == "bt-adapter")
    measures = {key.split("/")[0] for key in result.answers}
    chat = {"chat", "chat static"}
    encoder = {"twins", "first", "static"}
    controls = {"shuffled", "one picture"}
    expected = chat if fitted.row.training == "instruct" else chat | encoder
    assert measures == (expected | controls if name == "bt-adapter" else expected)
    assert result.of("chat static").shape[1] == 2
    if fitted.row.training == "pretrain":
        assert len(result.of("twins")) == len(REVERSIBLE)


def outcome(of: Row, seed: int, bench: Bench, work: Path) -> Result:
    return examine(fit(of, seed, bench, work), bench, is_headline=False, with_controls=False)


def test_equal_seeds_give_equal_answers(bench: Bench, tmp_path: Path) -> None:
    first, again = (outcome(row("bt-adapter"), 0, bench, tmp_path / name) for name in "ab")
    assert all(np.array_equal(first.answers[name], again.answers[name]) for name in first.answers)


@pytest.mark.parametrize("name", ["captioned", "tuned-mean"])
def test_rows_are_trained_in_half_precision_too(bench: Bench, tmp_path: Path, name: str) -> None:
    trained = fit(row(name), 0, replace(bench, precision="bfloat16"), tmp_path)
    assert np.isfinite(trained.cost.loss)


def test_other_seeds_start_from_other_weights(bench: Bench, tmp_path: Path) -> None:
    a, b = (fit(row("bt-adapter"), seed, bench, tmp_path) for seed in (0, 1))
    assert weights(a.encoder) != weights(b.encoder)


def test_one_branch_layer_has_none_on_the_chat_path(bench: Bench, tmp_path: Path) -> None:
    result = outcome(row("layers-1"), 0, bench, tmp_path)
    assert not result.has("chat")
    assert result.has("twins")


def test_the_last_steps_of_a_tail_see_every_patch(bench: Bench, tmp_path: Path) -> None:
    masked = row("bt-adapter")
    whole = replace(masked, name="whole", mask=MaskSettings(rate=0.0))
    tail = replace(masked, name="tail", mask=MaskSettings(rate=0.7, unmasked=1.0))
    a, b, c = (fit(each, 0, bench, tmp_path) for each in (masked, whole, tail))
    assert weights(b.encoder) == weights(c.encoder) != weights(a.encoder)
