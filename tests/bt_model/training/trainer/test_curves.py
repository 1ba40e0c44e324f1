"""A step log as a picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from bt_model.training.trainer.log import StepLog, draw_curves


def test_the_curves_of_a_log_are_drawn(tmp_path: Path) -> None:
    log = StepLog(tmp_path, "fit", 0)
    for step in range(100):
        log.write(step, {"loss": 1 / (step + 1), "vtc": 0.5 / (step + 1), "lr/all": 1e-4, "memory_mb": 5.0})
    log.close()
    assert draw_curves(log.path, tmp_path / "fit.png")
    picture = np.asarray(Image.open(tmp_path / "fit.png").convert("RGB"))
    colours = {tuple(pixel) for pixel in picture.reshape(-1, 3).tolist()}
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # the first two lines, in matplotlib's colours


def test_a_log_without_steps_gives_no_picture(tmp_path: Path) -> None:
    assert not draw_curves(tmp_path / "none.csv", tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
