"""Whole runs: over processes, over a stop, and what they leave behind."""

import json
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bt_model.assembly.load import load
from bt_model.backends.parts.template_backend import TemplateBackend
from bt_model.checkpoints.fingerprint import fingerprint
from bt_model.errors import BtchatError, InvalidValueError
from bt_model.generation.llama import Llama
from bt_model.prompt.templates import Template
from bt_model.training.chat_base import load_language
from bt_model.training.export import PROJECTOR
from bt_model.training.instruct.base import load_temporal_model, read_base
from bt_model.training.instruct.learning import unfreeze
from bt_model.training.instruct.run import export, instruct
from bt_model.training.instruct.settings import InstructSettings
from bt_model.training.instruct.step import InstructStep
from bt_model.training.settings import Parallel, plain
from bt_model.training.trainer.checkpoint import restore
from bt_model.training.trainer.log import read_rows
from bt_model.training.trainer.optimiser import multiplying_in
from bt_model.training.trainer.parallel import Rank
from bt_model.types import Turn, VideoTokens
from bt_model.vision.pool import pooling
from tests import tiny
from tests.bt_model.training.instruct.steps import batch, loss_of
from tests.bt_model.training.ranks import run_ranks, write_tuning
from tests.bt_model.training.videos import Videos

ALONE = Rank()
EVERYTHING: dict[str, Any] = {
    "learn": {"tokens": True, "lora_rank": 2},
    "run": {"recompute": True, "steps": 5},
    "optimiser": {"accumulate": 2, "warmup": 0.3},
}


def rows(work: Path, names: Sequence[str] = ("loss", "grad_norm")) -> list[list[float]]:
    return [[row[name] for name in names] for row in read_rows(work / "instruct.csv")]


def learnt(work: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of a run's last checkpoint, by part."""
    return torch.load(max(work.glob("instruct-*.ckpt")), weights_only=True)["modules"]


@pytest.fixture(scope="module")
def single(videos: Videos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five steps of one process, in which everything learns."""
    work = tmp_path_factory.mktemp("single")
    instruct(videos.settings(EVERYTHING), work, ALONE)
    return work


@pytest.mark.usefixtures("forked_ranks")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_take_the_steps_of_one(
    single: Path, videos: Videos, tmp_path: Path, parallel: Parallel
) -> None:
    run_ranks(write_tuning, 2, tmp_path, plain(videos.settings(EVERYTHING)), parallel)
    torch.testing.assert_close(torch.tensor(rows(tmp_path)), torch.tensor(rows(single)), rtol=1e-5, atol=1e-5)
    expected = learnt(single)
    assert learnt(tmp_path).keys() == expected.keys()
    for part, state in learnt(tmp_path).items():
        for name, tensor in state.items():
            if "k_proj.bias" not in name:  # has no effect, so no gradient but rounding, which Adam blows up
                torch.testing.assert_close(tensor, expected[part][name], rtol=1e-5, atol=1e-5, msg=name)


def test_a_run_that_stops_goes_on_as_if_it_had_not(single: Path, videos: Videos, tmp_path: Path) -> None:
    settings = videos.settings(EVERYTHING)
    instruct(videos.settings(EVERYTHING, {"run": {"steps": 3}}), tmp_path, ALONE)
    assert len(rows(tmp_path)) == 3
    instruct(settings, tmp_path, ALONE)
    assert rows(tmp_path) == rows(single)
    expected = learnt(single)
    for part, state in learnt(tmp_path).items():
        assert all(torch.equal(tensor, expected[part][name]) for name, tensor in state.items())


def test_a_run_is_not_resumed_with_settings_that_change_it(single: Path, videos: Videos) -> None:
    with pytest.raises(InvalidValueError, match=r"learn\.lora_rank is 3; allowed: 2, with which the run in"):
        instruct(videos.settings(EVERYTHING, {"learn": {"lora_rank": 3}}), single, ALONE)


def trained_step(settings: InstructSettings, work: Path) -> InstructStep:
    """The step in memory, with what a run learnt."""
    base = read_base(settings)
    encoder = load_temporal_model(base, settings)
    lm, projector = load_language(base, encoder.tower.config, "float32")
    step = InstructStep(encoder, pooling(base.file.pooling).pool, projector, lm)
    ids = load(str(settings.model.base), Path(), device="cpu").backend
    assert isinstance(ids, TemplateBackend)
    for part, module in unfreeze(step, settings.learn, ids.ids).items():
        restore(module, learnt(work)[part], part)
    return step.eval()


@pytest.mark.parametrize("saved", ["adapter", "merged"])
def test_the_tuned_folder_answers_as_the_trained_parts_do(
    saved: str, single: Path, videos: Videos, tmp_path: Path
) -> None:
    settings = videos.settings(EVERYTHING, {"learn": {"lora_saved": saved}})
    export(single, settings, tmp_path)
    assert (tmp_path / "llm").is_dir() == (saved == "merged")
    chat, step = load(str(tmp_path), Path(), device="cpu"), trained_step(settings, single)
    backend = chat.backend
    assert isinstance(backend, TemplateBackend)
    assert isinstance(backend.lm, Llama)
    clips = tiny.clips(1, 4)
    (tokens,) = chat.encode(clips)
    (expected,) = step.video_tokens(list(clips))
    torch.testing.assert_close(tokens, expected)
    torch.testing.assert_close(backend.bridge.projector(tokens), step.projector(expected))
    ids = torch.tensor([[backend.ids.bos, 9, backend.ids.video_start, backend.ids.video_end, 12]])
    assert step.markers is not None
    embeds = step.markers(step.lm.embed(ids), ids)
    torch.testing.assert_close(backend.lm.embed(ids), embeds)
    torch.testing.assert_close(backend.lm(embeds), step.lm(embeds), rtol=1e-4, atol=1e-4)
    plain_model = load(str(videos.base()), Path(), device="cpu").backend.lm
    assert isinstance(plain_model, Llama)
    assert (plain_model(embeds) - backend.lm(embeds)).abs().max() > 1e-4
    assert backend.segments([Turn("user", "what happens?")], [VideoTokens(b"", tokens)])


def test_what_did_not_learn_is_left_where_it_is(videos: Videos, tmp_path: Path) -> None:
    settings = videos.settings({"learn": {"temporal": False}, "model": {"name": "mine"}, "run": {"steps": 1}})
    instruct(settings, tmp_path / "work", ALONE)
    folder = tmp_path / "work" / "model"
    assert {path.name for path in folder.iterdir()} == {"mine.model.json", "projector.safetensors"}
    chat = load(str(folder), Path("weights"), device="cpu")
    base = load(str(videos.base()), Path(), device="cpu")
    assert torch.equal(chat.encode(tiny.clips(1, 4)), base.encode(tiny.clips(1, 4)))
    assert (chat.card.id, chat.card.default_frames) == ("mine", 4)
    file = json.loads((folder / "mine.model.json").read_text())
    assert (folder / file["llm"]).resolve() == (videos.folder / "tiny" / "llava_video").resolve()


@pytest.mark.parametrize("kind", ["stan", "st_adapter"])
def test_a_fresh_temporal_model_is_tuned_and_loads(kind: str, videos: Videos, tmp_path: Path) -> None:
    branch = {"num_layers": tiny.K, "max_frames": tiny.MAX_FRAMES}
    temporal = {"kind": kind, "branch": branch, "max_frames": tiny.MAX_FRAMES}
    fresh = {"model": {"adapter": "fresh"}, "temporal": temporal, "run": {"steps": 2}}
    instruct(videos.settings(fresh), tmp_path, ALONE)
    chat = load(str(tmp_path / "model"), Path(), device="cpu")
    assert chat.encoder.config.kind == kind
    state = {n: t for m in chat.encoder.trainable().values() for n, t in m.state_dict().items()}
    assert fingerprint(state) == fingerprint(learnt(tmp_path)["adapter"])


def test_templates_for_training_and_for_serving_may_differ_and_lost_dialogues_are_counted(
    videos: Videos, tmp_path: Path
) -> None:
    read = json.loads(videos.pairs.read_text())
    lost = [{**read[0], "a": ""}, {**read[0], "q": "why " * 3000}]
    (tmp_path / "rows.json").write_text(json.dumps([*read, *lost]))
    model = {"template": "vicuna_v1_1", "served_template": "video-chatgpt_v1"}
    data = {"place": "published", "annotations": [str(tmp_path / "rows.json")]}
    instruct(videos.settings({"model": model, "data": data, "run": {"steps": 1}}), tmp_path, ALONE)
    backend = load(str(tmp_path / "model"), Path(), device="cpu").backend
    assert isinstance(backend, TemplateBackend)
    assert isinstance(backend.template, Template)
    assert backend.template.system.startswith("You are Video-ChatGPT")
    told = json.loads((tmp_path / "dialogues.json").read_text())
    assert told == {"read": len(read) + 2, "empty": 1, "too long": 1, "cut": 0, "used": len(read)}


def test_markers_that_an_earlier_run_trained_stay_in_the_next_ones_file(
    videos: Videos, single: Path, tmp_path: Path
) -> None:
    settings = videos.settings({"model": {"base": str(single / "model")}, "run": {"steps": 1}})
    instruct(settings, tmp_path, ALONE)
    before, after = (load_file(work / "model" / PROJECTOR) for work in (single, tmp_path))
    assert torch.equal(after["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(after["model.mm_projector.weight"], before["model.mm_projector.weight"])


def test_broken_and_missing_videos_are_replaced_and_counted(videos: Videos, tmp_path: Path) -> None:
    root = Path(copytree(videos.export / "videos", tmp_path / "videos"))
    broken, gone = sorted(root.glob("*.mp4"))[:2]
    broken.write_bytes(b"no video")
    gone.unlink()
    settings = videos.settings({"data": {"root": str(root)}, "run": {"steps": 6}})
    instruct(settings, tmp_path / "work", ALONE)
    assert sum(skipped for (skipped,) in rows(tmp_path / "work", ["skipped"])) > 0
    noted = (tmp_path / "work" / "broken-0.jsonl").read_text()
    assert noted.count("\n") == 2
    assert broken.stem in noted
    assert gone.stem in noted


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"data": {"frames": 17}}, r"data\.frames is 17; allowed: up to 16, the temporal model's"),
        ({"data": {"frames": 11, "strategy": "middle"}}, r"data\.frames is 11; allowed: an even number"),
        ({"data": {"frames": 12}}, r"data\.strategy is 'published', .* in pairs: middle, retrieval"),
        (
            {"data": {"max_length": 4096}},
            r"data\.max_length is 4096; allowed: up to 2048, the model's context",
        ),
        ({"optimiser": {"batch": 500}}, r"optimiser\.batch is 500; allowed: a multiple of 1"),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_it_begins(
    values: dict[str, Any], message: str, videos: Videos, tmp_path: Path
) -> None:
    with pytest.raises(InvalidValueError, match=message):
        instruct(videos.settings(values), tmp_path, ALONE)


@pytest.mark.parametrize(
    ("template", "message"), [("phi4", r"template is 'phi4'; allowed"), ("chatml", r"<\|im_start\|>")]
)
def test_a_template_that_could_not_be_served_is_refused_before_it_begins(
    template: str, message: str, videos: Videos, tmp_path: Path
) -> None:
    with pytest.raises(BtchatError, match=message):
        instruct(videos.settings({"model": {"served_template": template}}), tmp_path / "work", ALONE)
    assert not (tmp_path / "work").exists()


def test_a_base_without_a_projector_before_a_llama_is_refused(videos: Videos, tmp_path: Path) -> None:
    path = tmp_path / "echo.model.json"
    path.write_text(json.dumps({"id": "echo", "backend": "echo", "tower": "clip"}))
    with pytest.raises(InvalidValueError, match="of the backend 'echo'; allowed: llava, video-chatgpt"):
        instruct(videos.settings({"model": {"base": str(path)}}), tmp_path / "work", ALONE)


def test_half_precision_holds_the_language_model_in_it_and_stays_near(videos: Videos) -> None:
    base, losses = read_base(videos.settings()), list[float]()
    for precision in ("float32", "bfloat16"):
        lm, projector = load_language(base, tiny.VISION, precision)
        kinds = {p.dtype for name, p in lm.named_parameters() if "_proj" in name}
        assert kinds == {getattr(torch, precision)}
        assert lm.model.norm.weight.dtype == next(projector.parameters()).dtype == torch.float32
        step = InstructStep(tiny.trained(tiny.FROZEN["bt_adapter"]), pooling("patches").pool, projector, lm)
        with multiplying_in(precision):
            losses.append(loss_of(step, batch(num_video=tiny.P)).item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
    assert losses[1] != losses[0]
