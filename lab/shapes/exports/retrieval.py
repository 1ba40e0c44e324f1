"""Zero-shot tests: MSR-VTT 1kA for retrieval; Kinetics', HMDB's and UCF's lists for recognition.

Formats: training spec 3.1.
"""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

from lab.shapes.captions import caption
from lab.shapes.events import (
    CHANGES,
    DIAGONALS,
    DIRECTIONS,
    PACES,
    PULSES,
    RESIZES,
    TURNS,
    Blink,
    Move,
    PulsePair,
    Recolour,
    Rotate,
    Still,
)
from lab.shapes.exports.files import (
    ClipFile,
    Written,
    link_clips,
    write_csv,
    write_entries,
    write_lines,
)
from lab.shapes.facts import TIMES, third_person
from lab.shapes.scene import COLOURS, Scene

MSRVTT_COLUMNS = ("key", "vid_key", "video_id", "sentence")
CLASSES = (
    *(f"moves {way}" for way in DIRECTIONS + DIAGONALS),
    *(third_person(word) for word in (*PACES, *CHANGES, *RESIZES)),
    *(f"turns {word}" for word in (*TURNS, *COLOURS)),
    *(f"blinks {times}" for times in TIMES),
    *(f"{third_person(first)} then {third_person(second)}" for first, second in permutations(PULSES, 2)),
)


def write_msrvtt(
    root: Path, clips: Sequence[ClipFile], *, seed: int, held_out: bool = False
) -> list[Written]:
    """Write MSRVTT_JSFUSION_test.csv and its JSON form, one caption a clip; clips lie at videos/videoN.mp4.

    With `held_out`, captions have the wordings that training never has, and the names end in _templates.
    """
    names = [f"video{number}" for number in range(len(clips))]
    texts = [caption(clip.scene, clip.rng(seed, "msrvtt"), held_out=held_out) for clip in clips]
    link_clips((root / "videos" / f"{name}.mp4" for name in names), clips)
    end, wordings = ("_templates", ", held-out wordings") if held_out else ("", "")
    rows = [
        (f"ret{number}", f"msr{number}", name, text)
        for number, (name, text) in enumerate(zip(names, texts, strict=True))
    ]
    return [
        write_csv(
            root / f"MSRVTT_JSFUSION_test{end}.csv",
            MSRVTT_COLUMNS,
            rows,
            f"MSR-VTT 1kA CSV{wordings}; clips at videos/video_id.mp4",
        ),
        write_entries(
            root / f"msrvtt_test{end}.json",
            {f"{name}.mp4": [text] for name, text in zip(names, texts, strict=True)},
            f"the same{wordings} as JSON: file name to captions",
        ),
    ]


def class_of(scene: Scene) -> str | None:
    """Return the name of what happens, one of CLASSES; a still scene is of none."""
    match scene.event:
        case Still():
            return None
        case Move(way):
            name = f"moves {way}"
        case Recolour(after):
            name = f"turns {after}"
        case Rotate(word):
            name = f"turns {word}"
        case Blink() as event:
            name = f"blinks {TIMES[event.count - 1]}"
        case PulsePair(first, second):
            name = f"{third_person(first.name)} then {third_person(second.name)}"
        case event:
            name = third_person(event.word)
    return name


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
