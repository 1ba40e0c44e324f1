"""`btchat corpus make` and `btchat corpus film`."""

from typing import Annotated, Literal

from cyclopts import Parameter

from btchat.commands.options import OutputFile, Work


def make(
    *,
    out: Work,
    clips: int = 2000,
    test_clips: int = 400,
    side: int = 64,
    seed: int = 0,
    kinds: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = (),
    most_items: int = 1,
    textures: bool = False,
    diagonals: bool = False,
    codec: Literal["exact", "default"] = "exact",
    workers: int = 1,
) -> None:
    """Write clips, captions, questions; stopped, it goes on where it was.

    Args:
        out: folder for this corpus alone
        clips: training clips, twins included
        test_clips: clips of each of the two test splits
        side: pixels, even
        seed: of all random draws
        kinds: of events: move, pace, change, resize, recolour, order, count, rotate, still (default: all)
        most_items: objects in a scene: 1, 2 or 3
        textures: striped, dotted and checked backgrounds, too
        diagonals: movement in eight directions, not four
        codec: exact: twins decode to the same frames; default: as videos in the world are coded
        workers: processes that paint and encode
    """
    from bt_model.training.trainer.progress import StepProgress
    from lab.shapes.exports.corpus import MANIFEST, CorpusPlan, make_corpus

    some = {"kinds": tuple(kinds)} if kinds else {}
    plan = CorpusPlan(
        num_clips=clips, num_test_clips=test_clips, seed=seed, side=side, most_items=most_items,
        textures=textures, diagonals=diagonals, codec=codec, **some,
    )  # fmt: skip
    done = dict.fromkeys(plan.splits, 0)
    with StepProgress("clips", sum(plan.splits.values())) as shown:

        def progress(split: str, count: int, _total: int) -> None:
            done[split] = count
            shown.update(sum(done.values()), split)

        written = make_corpus(out, plan, workers=workers, progress=progress)
    for each in written:
        print(f"{each.num_entries:8d}  {each.path.relative_to(out)!s:56s} {each.about}")
    print(f"{out / MANIFEST} names every file")


def film(
    *,
    out: OutputFile,
    events: int = 200,
    seconds: float = 3600.0,
    split: Literal["train", "val", "test", "test_combo"] = "test",
    seed: int = 0,
    twins: bool = False,
    side: int = 64,
) -> None:
    """Write a film with many events, and beside it as JSON when each is.

    Args:
        out: the film, an .mp4 file
        events: how many
        seconds: how long the film lasts, 6 or more for each event
        split: of which scenes
        seed: of all random draws
        twins: every scene's reverse is in the film, too
        side: pixels, even
    """
    from lab.shapes.films import FilmPlan, write_film

    written = write_film(out, FilmPlan(events, seconds, split, seed, twins=twins, side=side))
    print(f"{len(written)} events in {seconds:g} s: {out} and {out.with_suffix('.json')}")
