"""What an answer took."""

from server.engine.usage import Usage


def test_usage_counts_the_video_once() -> None:
    assert Usage(prompt=10, completion=3, video=8, cached=9).total == 13
