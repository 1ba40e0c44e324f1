"""Packets that are lost in mid-file: each frame that is left is still the one that its index and time say."""

from collections.abc import Collection
from pathlib import Path

import av
import pytest

from bt_model.types import FrameSize, Sampling
from bt_model.video.decode import Wanted, decode, decode_clip, scan
from tests.clips import ClipSpec, numbers_in, write_clip

N, GROUP = 33, 12
SIZE = FrameSize(64, "squash")
FINE = {"qmin": "1", "qmax": "2"}
SPECS = {
    "mjpeg.avi": ClipSpec(N, codec="mjpeg", pix_fmt="yuvj420p", options={}),
    "mpeg4.avi": ClipSpec(N, codec="mpeg4", options={"g": f"{GROUP}", **FINE}),
    "reordered.avi": ClipSpec(N, codec="mpeg4", options={"g": f"{GROUP}", "bf": "2", **FINE}),
    "h264.mkv": ClipSpec(N, options={"crf": "10", "g": "1"}),
}
WINDOWS = (Sampling(num_frames=3, start=0.48, end=0.6), Sampling(num_frames=4), Sampling(fps=240))


def zeroed(path: Path, lost: Collection[int]) -> Path:
    """The same file with the data of these packets gone."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as opened:
        packets = [bytes(packet) for packet in opened.demux(opened.streams.video[0]) if packet.size]
    at = 0
    for number, packet in enumerate(packets):
        at = data.index(packet, at)
        if number in lost:
            data[at : at + len(packet)] = bytes(len(packet))
        at += len(packet)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("sampling", WINDOWS, ids=["window", "few", "all"])
@pytest.mark.parametrize("lost", [(5,), (0, 1), (14, 15), (3, 20)], ids=str)
@pytest.mark.parametrize("name", SPECS)
def test_a_frame_is_the_one_that_its_time_says(
    tmp_path: Path, name: str, lost: tuple[int, ...], sampling: Sampling
) -> None:
    path = zeroed(write_clip(tmp_path / name, SPECS[name]), lost)
    frames = decode(path, sampling, SIZE, 8)
    shown = [round(seconds * 25) for seconds in frames.timestamps]
    numbers = numbers_in(frames.pixels)
    if name in ("mjpeg.avi", "h264.mkv"):
        assert numbers == shown
        return
    # a frame that refers to a lost one may look like the one before it, and without a key frame like anything
    begin = GROUP if 0 in lost else 0
    late = [time - number for time, number in zip(shown, numbers, strict=True) if time >= begin]
    assert late
    assert set(late) <= {*range(len(lost) + 1)}


def test_a_lost_frame_costs_no_later_question_the_whole_file(tmp_path: Path) -> None:
    spec = ClipSpec(90, codec="libx264", options={"crf": "20", "g": "10", "bf": "0", "sc_threshold": "0"})
    path = zeroed(write_clip(tmp_path / "a.mkv", spec), {50})
    with path.open("rb") as file:
        wanted = Wanted(Sampling(fps=240), (SIZE,), 8)
        clip, _ = decode_clip(file, scan(file), wanted)
        assert (len(clip.times) < 90, clip.is_counted) == (True, True)
        assert clip.num_needed([3]) <= 10
        again, (frames,) = decode_clip(file, clip, Wanted(Sampling(num_frames=8), (SIZE,), 8))
    assert again is clip
    assert frames.num_frames == 8
