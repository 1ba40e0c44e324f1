"""Who waits for a decode child: whose turn it is, and who is refused."""

from pathlib import Path

import pytest

from bt_model.decoding.decoded import Decoded
from bt_model.decoding.pool import DecodePool
from bt_model.decoding.queue import DecodeJob, JobQueue
from bt_model.decoding.wire import Request
from bt_model.errors import DecodeQueueFullError, VideoError
from tests.bt_model.decoding.pools import stop_child, until


def job(name: str) -> DecodeJob:
    """One of the owner that its name begins with."""
    return DecodeJob(Path(name), Request("probe"), name[0], Decoded.close)


def filled(*names: str, most: float = 100, most_per_owner: float = 100, num_children: int = 1) -> JobQueue:
    queue = JobQueue(most, most_per_owner, num_children)
    for name in names:
        queue.add(job(name))
    return queue


def taken(queue: JobQueue) -> list[str]:
    return [str(queue.take().path) for _ in range(len(queue))]


def test_owners_take_turns_and_each_one_s_files_keep_their_order() -> None:
    assert taken(filled("a1", "a2", "a3", "a4", "b1", "c1", "b2")) == [
        "a1",
        "b1",
        "c1",
        "a2",
        "b2",
        "a3",
        "a4",
    ]


def test_who_comes_late_waits_for_one_file_of_each_other() -> None:
    queue = filled("a1", "a2", "a3", "b1")
    assert str(queue.take().path) == "a1"
    queue.add(job("c1"))
    assert taken(queue) == ["b1", "a2", "c1", "a3"]


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    queue = filled("a1", "b1", "c1", most=3, num_children=2)
    for _ in range(100):
        queue.learn(4.0)
    with pytest.raises(DecodeQueueFullError, match="3 videos wait for a decoder") as caught:
        queue.add(job("d1"))
    assert caught.value.retry_seconds == pytest.approx(6, abs=0.01)
    queue.take()
    queue.add(job("d1"))
    assert len(queue) == 3


def test_an_owner_at_its_share_leaves_room_for_others() -> None:
    queue = filled("a1", "a2", most_per_owner=2)
    with pytest.raises(DecodeQueueFullError, match="2 videos of this key wait"):
        queue.add(job("a3"))
    queue.add(job("b1"))
    assert taken(queue) == ["a1", "b1", "a2"]


def test_a_file_that_is_tried_again_is_the_next_one_although_the_queue_is_full() -> None:
    queue = filled("a1", "b1", most=2, most_per_owner=1)
    again = queue.take()
    queue.add(job("a2"))
    queue.put_back(again)
    assert taken(queue) == ["a1", "b1", "a2"]


def test_who_leaves_has_left_at_once(tmp_path: Path) -> None:
    with DecodePool(1, most_waiting=2) as pool:
        stop_child(pool)
        at_work = pool.probe(tmp_path)
        until(lambda: pool.num_idle == 0)
        first, second = pool.probe(tmp_path), pool.probe(tmp_path)
        with pytest.raises(DecodeQueueFullError):
            pool.probe(tmp_path).result()
        second.cancel()
        assert pool.num_waiting == 1
        third = pool.probe(tmp_path, owner="b")
        third.cancel()
        at_work.cancel()
        with pytest.raises((VideoError, OSError)):
            first.result()
