"""Captioned clips for pre-training: WebVid's CSV in both column orders, and the JSON list of VindLU and UMT.

Formats: training spec 1.4.
"""

from collections.abc import Sequence
from pathlib import Path

from lab.shapes.captions import caption
from lab.shapes.events import NUM_FRAMES
from lab.shapes.exports.files import ClipFile, Written, link_clips, write_csv, write_entries
from lab.shapes.scene import FPS

COLUMNS = {
    "2M": ("videoid", "name", "page_idx", "page_dir", "duration", "contentUrl"),
    "10M": ("videoid", "contentUrl", "duration", "page_dir", "name"),
}
_FIRST_ID = 1_000_001  # numbers of one length: no reader can take them for anything but an id
_PAGE = 1000  # clips in a folder
_DURATION = f"PT00H00M{NUM_FRAMES // FPS:02d}S"


def write_webvid(
    root: Path, clips: Sequence[ClipFile], *, seed: int, part: str = "train", static_share: float = 0.0
) -> list[Written]:
    """Write results_2M_{part}.csv and results_10M_{part}.csv; clips lie at videos/page_dir/videoid.mp4.

    Args:
        root: folder of the data set.
        clips: one row each, in this order.
        seed: of the wordings.
        part: "train" or "val", in the files' names.
        static_share: share of captions that leave the event out.
    """
    rows = [_row(number, clip, seed, static_share) for number, clip in enumerate(clips)]
    link_clips((root / "videos" / row["page_dir"] / f"{row['videoid']}.mp4" for row in rows), clips)
    return [
        write_csv(
            root / f"results_{edition}_{part}.csv",
            columns,
            [[row[column] for column in columns] for row in rows],
            f"WebVid CSV, column order of the {edition} file; clips at videos/page_dir/videoid.mp4",
        )
        for edition, columns in COLUMNS.items()
    ]


def _row(number: int, clip: ClipFile, seed: int, static_share: float) -> dict[str, str]:
    page = number // _PAGE
    return {
        "videoid": str(_FIRST_ID + number),
        "name": caption(clip.scene, clip.rng(seed, "webvid"), static_share=static_share),
        "page_idx": str(page),
        "page_dir": f"{page * _PAGE + 1:06d}_{(page + 1) * _PAGE:06d}",
        "duration": _DURATION,
        "contentUrl": clip.path.name,
    }


def write_caption_list(
    path: Path, clips: Sequence[ClipFile], *, seed: int, num_captions: int = 1, static_share: float = 0.0
) -> Written:
    """Write [{"video", "caption"}]; `video` is relative to the clips' folder, several captions are a list."""
    entries: list[dict[str, str | list[str]]] = []
    for clip in clips:
        texts = [
            caption(clip.scene, clip.rng(seed, f"list {number}"), static_share=static_share)
            for number in range(num_captions)
        ]
        entries.append({"video": clip.path.name, "caption": texts[0] if num_captions == 1 else texts})
    return write_entries(path, entries, "VindLU and UMT JSON list; videos in the clips' own folder")
