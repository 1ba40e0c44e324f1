"""What is said about one video, turn by turn."""

import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class VideoDialogue:
    """What was said about a video; `is_video_first` says on which side of the first question it stands.

    None leaves that to the template.
    """

    video: str
    said: tuple[Exchange, ...]
    is_video_first: bool | None = None

    def packed(self) -> str:
        said = [[each.question, each.answer] for each in self.said]
        return json.dumps([self.video, said, self.is_video_first], ensure_ascii=False)

    @classmethod
    def unpacked(cls, text: str) -> "VideoDialogue":
        video, said, is_video_first = json.loads(text)
        return cls(video, tuple(Exchange(*each) for each in said), is_video_first)
