"""The request of a receipt: sent to our own route, it gives the same answer."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from bt_model.errors import InvalidValueError
from bt_model.types import GenerateOptions, ModelCard, Role, Turn
from server.bodies.formats import format_of
from server.features.clips import EncodedClip
from server.uploads.sources import DIGEST, InlineVideo


def request_of(
    card: ModelCard, turns: Sequence[Turn], clips: Sequence[EncodedClip], options: GenerateOptions
) -> dict[str, Any]:
    """The body of /v1/video/chat for what one model was asked, with samplings as they came out."""
    asked = [number for number, turn in enumerate(turns) if turn.role == "user"]
    shown: defaultdict[int, list[EncodedClip]] = defaultdict(list)
    for clip in clips:
        shown[next(number for number in asked if number >= clip.clip.place.turn)].append(clip)
    first: dict[str, Any] = {"video": None}
    if (of_first := shown[asked[0]]) and (len(of_first) == 1 or not of_first[0].clip.place.at):
        first = _video(of_first.pop(0))
    messages = (message for number, turn in enumerate(turns) for message in _messages(turn, shown[number]))
    given = {"model": card.id, "fingerprint": card.model_fingerprint, "messages": list(messages)}
    return {**first, **given, **_given(options)}


def _messages(turn: Turn, clips: Sequence[EncodedClip]) -> Iterator[dict[str, Any]]:
    """A turn as messages, which are neighbours of one role: videos stand in front of a message's text."""
    begin, videos = 0, list[dict[str, Any]]()
    for clip in clips:
        if (at := clip.clip.place.at) > begin:
            yield _message(turn.role, turn.text[begin:at].removesuffix("\n"), videos)
            begin, videos = at, []
        videos.append(_video(clip))
    if turn.text[begin:] or videos or not begin:
        yield _message(turn.role, turn.text[begin:], videos)


def _message(role: Role, text: str, videos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    shown = {"videos": list(videos)} if videos else {}
    return {"role": role, "content": text, **shown}


def _video(clip: EncodedClip) -> dict[str, Any]:
    """Of one that came with its request nothing is left but what its bytes were."""
    source = clip.clip.source
    name = f"{DIGEST}{source.sha256}" if isinstance(source, InlineVideo) else source.name
    return {"video": name, "sampling": clip.video.facts["sampling"]}


def check_fingerprint(card: ModelCard, expected: str | None) -> None:
    """Raises InvalidValueError: the model is not what it was when a receipt was written."""
    if expected not in (None, card.model_fingerprint):
        text = (
            f"fingerprint is {expected!r}; that of {card.id} is {card.model_fingerprint!r} now, which gives "
            "other answers: ask without a fingerprint for one of them"
        )
        raise InvalidValueError(text, code="fingerprint_changed", param="fingerprint")


def _given(options: GenerateOptions) -> dict[str, Any]:
    """Those that are no defaults of the model, as a body has them."""
    names = set(GenerateOptions.__slots__) - {"logprobs", "stop", "logit_bias", "schema"}
    given = {name: value for name in sorted(names) if (value := getattr(options, name)) is not None}
    if options.stop:
        given["stop"] = list(options.stop)
    if options.logit_bias:
        given["logit_bias"] = {str(number): bias for number, bias in options.logit_bias}
    if options.schema is not None:
        given["response_format"] = format_of(options.schema)
    if options.logprobs is not None:
        given |= {"logprobs": True, "top_logprobs": options.logprobs}
    return given
