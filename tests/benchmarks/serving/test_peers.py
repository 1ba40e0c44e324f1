from pathlib import Path

import pytest

from benchmarks.serving import loads, null
from benchmarks.serving.peers import start
from benchmarks.serving.prompts import Batch, Load, read_load, token_table, write_load
from benchmarks.serving.runs import run
from bt_model.config import LlamaConfig

TINY = LlamaConfig(64, 32, 2, 4, 2, 48, 512)
NEW_TOKENS = 3


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model, and two prompts of the standard load for it, cold and warm."""
    monkeypatch.setattr(loads, "STANDARD", TINY)
    (tmp_path / "model").mkdir()
    loads.write_standard_model(tmp_path / "model")
    batches = [Batch(b.prompts[:2], b.round, b.is_warm) for b in loads.standard(1).batches]
    write_load(Load(tuple(batches), NEW_TOKENS), tmp_path)
    return tmp_path


def test_a_load_is_read_as_it_was_written(folder: Path) -> None:
    cold, warm = read_load(folder).batches
    assert (cold.is_warm, warm.is_warm) == (False, True)
    table = token_table(folder / "model")
    for first, second, other in zip(cold.prompts, warm.prompts, warm.prompts[::-1], strict=True):
        assert first.segments[0] == second.segments[0]
        assert first.segments[2] != second.segments[2]
        shared = loads.SYSTEM + loads.VIDEO
        assert first.embeds(table)[:shared].equal(second.embeds(table)[:shared])
        assert not first.embeds(table)[:shared].equal(other.embeds(table)[:shared])
        assert len(first.embeds(table)) == shared + loads.QUESTION


@pytest.mark.filterwarnings("ignore")  # what transformers deprecates is its own affair
@pytest.mark.parametrize("engine", ["own", "static"])
def test_engines_of_one_process_answer_alike(folder: Path, engine: str) -> None:
    model, prompts = folder / "model", read_load(folder).batches[0].prompts
    expected = start("sequential", model, 2, NEW_TOKENS).answer(prompts)
    assert [len(answer) for answer in expected] == [NEW_TOKENS] * 2
    assert start(engine, model, 2, NEW_TOKENS).answer(prompts) == expected


def test_an_engine_answers_in_a_process_of_its_own(folder: Path) -> None:
    figures = run(folder, ["own"], 2, None)["own"]
    assert figures.num_compared == 0  # the reference did not run
    assert figures.tokens_per_cpu_second_cold > 0
    assert len(figures.each_warm) == 1


def test_a_step_around_a_model_without_cost_is_timed() -> None:
    assert all(null.step_ms(2, options) > 0 for options in (null.CHOICES[0], null.CHOICES[-1]))
