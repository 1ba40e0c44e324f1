"""Clips with captions, for pre-training and retrieval, and with classes, for recognition.

The formats are those of docs/corpus.md: WebVid's CSV in both column orders, the JSON list of VindLU and UMT,
MSR-VTT 1kA, and the lists that Kinetics, HMDB and UCF have.
"""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

from lab.shapes import events
from lab.shapes.captions import caption, event_words
from lab.shapes.exports.files import ClipFile, Written, link_clips, write_csv, write_entries, write_lines
from lab.shapes.scene import COLOURS, FPS, Scene
from lab.shapes.wordings import TIMES, third_person

WEBVID_COLUMNS = {
    "2M": ("videoid", "name", "page_idx", "page_dir", "duration", "contentUrl"),
    "10M": ("videoid", "contentUrl", "duration", "page_dir", "name"),
}
MSRVTT_COLUMNS = ("key", "vid_key", "video_id", "sentence")
CLASSES = (
    *(f"moves {way}" for way in events.DIRECTIONS + events.DIAGONALS),
    *(third_person(word) for word in (*events.PACES, *events.CHANGES, *events.RESIZES)),
    *(f"turns {word}" for word in (*events.TURNS, *COLOURS)),
    *(f"blinks {times}" for times in TIMES),
    *(" then ".join(map(third_person, pair)) for pair in permutations(events.PULSES, 2)),
)

_FIRST_ID = 1_000_001  # numbers of one length: no reader can take them for anything but an id
_PAGE = 1000  # clips in a folder
_CLASS_TEMPLATES = {
    events.Move.kind: "moves {way}",
    events.Recolour.kind: "turns {after}",
    events.Rotate.kind: "turns {way}",
    events.Blink.kind: "blinks {times}",
    events.PulsePair.kind: "{first} then {second}",
}


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
    rows = [_webvid_row(number, clip, seed, static_share) for number, clip in enumerate(clips)]
    link_clips((root / "videos" / row["page_dir"] / f"{row['videoid']}.mp4" for row in rows), clips)
    return [
        write_csv(
            root / f"results_{edition}_{part}.csv",
            columns,
            [[row[column] for column in columns] for row in rows],
            f"WebVid CSV, column order of the {edition} file; clips at videos/page_dir/videoid.mp4",
        )
        for edition, columns in WEBVID_COLUMNS.items()
    ]


def _webvid_row(number: int, clip: ClipFile, seed: int, static_share: float) -> dict[str, str]:
    page = number // _PAGE
    return {
        "videoid": str(_FIRST_ID + number),
        "name": caption(clip.scene, clip.rng(seed, "webvid"), static_share=static_share),
        "page_idx": str(page),
        "page_dir": f"{page * _PAGE + 1:06d}_{(page + 1) * _PAGE:06d}",
        "duration": f"PT00H00M{events.NUM_FRAMES // FPS:02d}S",
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


def write_msrvtt(
    root: Path, clips: Sequence[ClipFile], *, seed: int, held_out: bool = False
) -> list[Written]:
    """Write MSRVTT_JSFUSION_test.csv and its JSON form, one caption a clip; clips lie at videos/videoN.mp4.

    With `held_out`, captions have the wordings that training never has, and the names end in _templates.
    """
    texts = {
        f"video{number}": caption(clip.scene, clip.rng(seed, "msrvtt"), held_out=held_out)
        for number, clip in enumerate(clips)
    }
    link_clips((root / "videos" / f"{name}.mp4" for name in texts), clips)
    end, wordings = ("_templates", ", held-out wordings") if held_out else ("", "")
    return [
        write_csv(
            root / f"MSRVTT_JSFUSION_test{end}.csv",
            MSRVTT_COLUMNS,
            [(f"ret{number}", f"msr{number}", *row) for number, row in enumerate(texts.items())],
            f"MSR-VTT 1kA CSV{wordings}; clips at videos/video_id.mp4",
        ),
        write_entries(
            root / f"msrvtt_test{end}.json",
            {f"{name}.mp4": [text] for name, text in texts.items()},
            f"the same{wordings} as JSON: file name to captions",
        ),
    ]


def class_of(scene: Scene) -> str | None:
    """Return the name of what happens, one of CLASSES; a still scene is of none."""
    if isinstance(scene.event, events.Still):
        return None
    return _CLASS_TEMPLATES.get(scene.event.kind, "{does}").format(**event_words(scene))


def write_recognition(root: Path, clips: Sequence[ClipFile]) -> list[Written]:
    """Write the lists of clips with labels, and the class names; paths are relative to the clips' folder.

    Still clips, which are of no class, are left out.
    """
    labelled = [(clip.path.name, CLASSES.index(name)) for clip in clips if (name := class_of(clip.scene))]
    return [
        write_lines(root / "class_names.txt", CLASSES, "class names, a line each, label 0 first"),
        write_lines(
            root / "kinetics_val.txt",
            [f"{path} {label}" for path, label in labelled],
            "Kinetics-400 list: path, space, label from 0; videos in the clips' own folder",
        ),
        write_lines(
            root / "hmdb_val.txt",
            [f"{path}\t{label + 1}" for path, label in labelled],
            "HMDB-51 and UCF-101 list: path, tab, label from 1; videos in the clips' own folder",
        ),
    ]
