"""Questions that speak of a video and carry none: what a gateway makes of them that drops video parts."""

import re
from collections.abc import Sequence

from bt_model.errors import InvalidValueError
from bt_model.types import Turn
from server.answers.question import AnswerWarning

_WORDS = (
    r"\b(video\w*|clips?|footage|films?|movies?|recordings?|frames)\b"
    r"|\b(vidéos?|vídeos?|películas?|filmat[io]|видео\w*|ролик\w*)\b"
    r"|视频|視頻|影片|录像|動画|ビデオ|映像|영상|비디오|فيديو|वीडियो"
)
_LINKS = r"\.(mp4|m4v|mov|webm|mkv|avi|3gp)\b|\byoutu\.be/|\byoutube\.com/|\bvimeo\.com/|\bvid_[0-9a-f]{32}\b"
_MENTION = re.compile(f"{_WORDS}|{_LINKS}", re.IGNORECASE)
_WAY_OUT = 'a user message takes one as {"type": "video_url", "video_url": {"url": "vid_… or data:video/…"}}'


def warnings_without_video(turns: Sequence[Turn]) -> tuple[AnswerWarning, ...]:
    """What to tell one who asks without a video: a warning where the text, by its words, means one."""
    if not any(turn.role == "user" and _MENTION.search(turn.text) for turn in turns):
        return ()
    text = f"the question seems to speak of a video and carries none: the model has seen nothing; {_WAY_OUT}"
    return (AnswerWarning("no_video", text),)


def video_required() -> InvalidValueError:
    """The refusal where `require_video` is set."""
    text = f"the dialogue has no video, and this server answers no question without one; {_WAY_OUT}"
    return InvalidValueError(text, code="video_required", param="messages")
