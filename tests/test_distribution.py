"""What the wheel and the sdist hold."""

from pathlib import Path

import pytest

from bt_model.training.presets import preset_names
from tests.distribution import ROOT, build, digests, wheel_of_sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("distribution")
    build(ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def files(built: Path) -> set[str]:
    (wheel,) = built.glob("*.whl")
    return set(digests(wheel))


def test_the_wheel_takes_three_names(files: set[str]) -> None:
    tops = {name.split("/")[0] for name in files}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"bt_model", "btchat", "server"}


def test_the_wheel_has_all_code_the_embedded_models_presets_and_the_list_of_published_sets(
    files: set[str],
) -> None:
    code = {
        str(path.relative_to(ROOT))
        for room in ("bt_model", "btchat", "server")
        for path in (ROOT / room).rglob("*.py")
    }
    weights = {
        str(path.relative_to(ROOT)) for path in (ROOT / "weights" / "embedded").rglob("*") if path.is_file()
    }
    presets = {
        f"bt_model/training/presets/{stage}/{name}.toml"
        for stage in ("pretrain", "instruct")
        for name in preset_names(stage)
    }
    wanted = code | presets | {f"bt_model/{name}" for name in weights} | {"bt_model/weights/manifest.toml"}
    assert wanted - files == set()
    assert {f"{room}/py.typed" for room in ("bt_model", "btchat", "server")} <= files


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    assert digests(wheel_of_sdist(sdist, tmp_path)) == digests(wheel)
