"""In which order texts and videos come in the turns of a dialogue."""

from collections.abc import Sequence
from dataclasses import dataclass

from bt_model.generation.request import Soft
from bt_model.types import BEGIN, Place, Turn


@dataclass(frozen=True, slots=True)
class PlacedVideo:
    """A video's soft tokens, and where in a dialogue they stand."""

    soft: Soft
    place: Place = BEGIN


def laid_out(
    turns: Sequence[Turn], videos: Sequence[PlacedVideo], *, is_video_first: bool
) -> list[list[str | Soft]]:
    """Text and videos of each turn, in order; `videos` are in the order of their places.

    The only video of a turn stands on the side of its text on which the format was published; several stand
    between its lines, where they were given.
    """
    of_turn: list[list[PlacedVideo]] = [[] for _ in turns]
    for video in videos:
        asked = (number for number, turn in enumerate(turns) if turn.role == "user")
        of_turn[next(number for number in asked if number >= video.place.turn)].append(video)
    return [_pieces(turn.text, of, is_video_first) for turn, of in zip(turns, of_turn, strict=True)]


def _pieces(text: str, videos: Sequence[PlacedVideo], is_video_first: bool) -> list[str | Soft]:
    if len(videos) <= 1:
        pieces: list[str | Soft] = [*([text] if text else ()), *(video.soft for video in videos)]
        return pieces[::-1] if is_video_first else pieces
    pieces, begin = [], 0
    for video in videos:
        pieces += [text[begin : video.place.at].removesuffix("\n"), video.soft]
        begin = video.place.at
    return [piece for piece in (*pieces, text[begin:]) if piece != ""]
