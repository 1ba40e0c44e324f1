"""Which windows a film has, and which frames are decoded for them."""

from itertools import pairwise

import pytest

from bt_model.errors import InvalidValueError
from bt_model.search.windows import WindowPlan
from bt_model.types import MAX_FRAMES
from bt_model.video.sample import choose_frames

PLANS = [
    WindowPlan(),
    WindowPlan(stride=2),
    WindowPlan(4.0, 16, 3),
    WindowPlan(0.3, 5, 5),
    WindowPlan(2.0, 1),
]
SECONDS = [0.2, 3.9, 4.0, 4.4, 63.5, 64.0, 64.5, 3600.0]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("seconds", SECONDS)
def test_the_chunks_have_every_window_of_a_film_once_and_whole(plan: WindowPlan, seconds: float) -> None:
    chunks = list(plan.chunks(seconds))
    frames, windows = plan.num_frames(seconds), plan.num_windows(seconds)
    covered = [chunk.first_window + number for chunk in chunks for number in range(chunk.num_windows)]
    assert covered == list(range(windows))
    for chunk in chunks:
        assert chunk.num_frames <= MAX_FRAMES
        assert chunk.first_frame == chunk.first_window * plan.stride
        last = chunk.first_frame + (chunk.num_windows - 1) * plan.stride + min(plan.length, frames)
        assert chunk.first_frame + chunk.num_frames == last <= frames


@pytest.mark.parametrize("plan", PLANS)
def test_neighbouring_chunks_share_no_more_frames_than_a_window_needs(plan: WindowPlan) -> None:
    for one, other in pairwise(plan.chunks(3600.0)):
        assert one.first_frame + one.num_frames - other.first_frame == plan.length - plan.stride


@pytest.mark.parametrize("plan", [WindowPlan(), WindowPlan(stride=2)])
def test_an_hour_encodes_at_most_a_tenth_more_frames_than_it_has(plan: WindowPlan) -> None:
    encoded = sum(chunk.num_frames for chunk in plan.chunks(3600.0))
    assert encoded <= 1.1 * plan.num_frames(3600.0)
    assert encoded / plan.num_frames(3600.0) == pytest.approx(plan.overhead, rel=0.01)


def test_windows_begin_every_stride_and_none_ends_after_the_film() -> None:
    plan = WindowPlan(fps=2.0, length=8, stride=2)
    spans = [plan.span(number, 9.8) for number in range(plan.num_windows(9.8))]
    assert spans == [(0.0, 4.0), (1.0, 5.0), (2.0, 6.0), (3.0, 7.0), (4.0, 8.0), (5.0, 9.0), (6.0, 9.8)]


def test_a_film_shorter_than_a_window_has_one_of_all_its_frames() -> None:
    plan = WindowPlan(fps=2.0, length=8)
    (chunk,) = plan.chunks(1.3)
    assert (chunk.num_frames, chunk.num_windows, plan.span(0, 1.3)) == (3, 1, (0.0, 1.3))


@pytest.mark.parametrize("fps", [8.0, 29.97, 1.0, 24.0])
@pytest.mark.parametrize("seconds", [70.0, 200.3])
def test_what_a_chunk_asks_for_is_on_screen_at_its_ticks(fps: float, seconds: float) -> None:
    plan, total = WindowPlan(), round(seconds * fps)
    shown = [number / fps for number in range(total)]
    for chunk in plan.chunks(total / fps):
        chosen = choose_frames(total, chunk.sampling, fps, 8)
        times = [shown[index] for index in chosen.indices]
        rows = chunk.on_screen(times)
        assert len(rows) == chunk.num_frames
        for number, row in enumerate(rows):
            tick = chunk.start + number / plan.fps
            # of a chunk's first frames, decoders give what begins at the tick or after it, not before
            assert -1 / fps < tick - times[row] < 1 / fps + 1e-6


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fps": 0.0}, r"fps is 0\.0; allowed: above 0, up to 240"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"length": 0}, "length is 0; allowed: 1 to 128"),
        ({"length": 129}, "length is 129; allowed: 1 to 128"),
        ({"stride": 9}, "stride is 9; allowed: 1 to 8, the length"),
        ({"stride": 0}, "stride is 0; allowed: 1 to 8"),
    ],
)
def test_a_plan_that_no_film_can_have_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        WindowPlan(**values)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_a_film_has_a_length(seconds: float) -> None:
    with pytest.raises(InvalidValueError, match=r"seconds is .*; allowed: 0 or more"):
        WindowPlan().num_frames(seconds)
