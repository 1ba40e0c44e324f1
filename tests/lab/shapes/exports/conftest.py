from pathlib import Path

import pytest

from lab.shapes.exports.files import ClipFile
from tests.lab.shapes.hand_drawn import drawn


@pytest.fixture
def clips(tmp_path: Path) -> list[ClipFile]:
    """Every third is the twin of the one before; the files hold their own numbers."""
    folder = tmp_path / "clips"
    folder.mkdir()
    made: list[ClipFile] = []
    for number, scene in enumerate(drawn(45, seed=1)):
        path = folder / f"{number:020x}.mp4"
        path.write_text(str(number))
        made.append(ClipFile(path, made[-1].scene.twin() if number % 3 == 1 else scene))
    return made
