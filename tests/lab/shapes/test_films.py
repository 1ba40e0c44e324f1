"""A film holds its events where its sidecar says, and nothing happens in between."""

import json
from pathlib import Path

import numpy as np
import pytest

from bt_model.errors import InvalidValueError
from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import decode
from lab.shapes.events import NUM_FRAMES
from lab.shapes.films import HAPPENING, FilmPlan, draw_film, paint_film, write_film
from lab.shapes.paint import paint_clip
from lab.shapes.scene import FPS
from lab.shapes.splits import split_of

PLAN = FilmPlan(num_events=8, seconds=100.0, split="val", side=32)


def test_events_lie_apart_with_rest_around_each() -> None:
    events = draw_film(PLAN)
    assert {event.kind for event in events} == set(HAPPENING)
    assert all(split_of(event.scene) == "val" for event in events)
    for number, event in enumerate(events):
        assert event.end - event.begin == NUM_FRAMES / FPS
        assert number * 12.5 + 1 <= event.begin
        assert event.end <= (number + 1) * 12.5 - 1


def test_a_scene_rests_has_its_event_and_rests() -> None:
    events = draw_film(PLAN)
    for number, (scene, event) in enumerate(zip(paint_film(PLAN, events), events, strict=True)):
        begin = round(event.begin * FPS) - number * 100
        assert len(scene) == 100
        clip = paint_clip(event.scene, PLAN.side)
        assert np.array_equal(scene[begin : begin + NUM_FRAMES], clip)
        assert (scene[:begin] == clip[0]).all()
        assert (scene[begin + NUM_FRAMES :] == clip[-1]).all()


def test_with_twins_every_scene_and_its_twin_are_there_in_the_same_words() -> None:
    plan = FilmPlan(8, 100.0, "val", 3, twins=True)
    events = {event.scene: event for event in draw_film(plan)}
    assert len(events) == 8
    for scene, event in events.items():
        twin = events[scene.twin()]
        assert twin.caption != event.caption
        assert len(twin.caption.split()) == len(event.caption.split())


def test_equal_plans_make_equal_films_and_other_seeds_others() -> None:
    assert draw_film(PLAN) == draw_film(PLAN)
    assert draw_film(PLAN) != draw_film(FilmPlan(8, 100.0, "val", 1, side=32))


def test_the_file_shows_what_was_painted_and_its_sidecar_when(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    events = write_film(path, PLAN)
    truth = json.loads(path.with_suffix(".json").read_text())
    assert [
        (each["begin"], each["end"], each["caption"], each["paraphrase"]) for each in truth["events"]
    ] == [(event.begin, event.end, event.caption, event.paraphrase) for event in events]
    event = events[3]
    sampling = Sampling(fps=float(FPS), start=event.begin, end=event.end)
    shown = decode(path, sampling, FrameSize(PLAN.side), NUM_FRAMES).pixels
    painted = paint_clip(event.scene, PLAN.side)
    assert shown.shape == painted.shape
    assert np.abs(shown.astype(int) - painted).mean() < 6  # the codec's chroma


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": "all"}, "split is 'all'; allowed: one of train, val"),
        ({"num_events": 0}, "num_events is 0; allowed: 1 or more"),
        (
            {"num_events": 3, "twins": True},
            "num_events is 3; allowed: 1 or more, and an even number with twins",
        ),
        ({"seconds": 1199.0}, r"seconds is 1199\.0; allowed: 1200 or more for 200 events"),
        ({"seconds": float("inf")}, "seconds is inf"),
        ({"side": 33}, "side is 33; allowed: an even number of pixels"),
    ],
)
def test_a_plan_without_room_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        FilmPlan(**values)  # pyright: ignore[reportArgumentType]
