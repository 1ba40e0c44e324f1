"""What a file of the comparison is, and how it is written."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bt_model.video.formats import Container
from tests.videos.program import Shown, write

WIDTH, HEIGHT, COUNT = 128, 96, 30


@dataclass(frozen=True, slots=True)
class Film:
    """A file. `source` and `options` are the program's; `then` makes another file of the first one.

    `numbers` are those drawn on its frames, where they stand upright in the bottom right corner.
    """

    name: str
    container: Container
    codec: str
    what: str
    source: Sequence[str]
    options: Sequence[str] = ()
    then: tuple[Sequence[str], Sequence[str]] | None = None
    numbers: Sequence[int] | None = None
    shown: Shown = field(default_factory=Shown)
    is_original: bool = False

    def written(self, folder: Path) -> Path:
        """The file, in a folder of its own.

        Raises:
            ProgramError: the program has no encoder for it, or the container does not take the codec.
        """
        if self.is_original:
            return Path(self.source[-1])
        path = folder / self.name
        if self.then is None:
            return write(path, self.source, self.options)
        first = write(folder / f"first-{self.name}", self.source, self.options)
        before, after = self.then
        return write(path, [*before, "-i", str(first)], after)


@dataclass(frozen=True, slots=True)
class Missing:
    """A codec that a container could hold, and why there is no file of it here."""

    container: Container
    codec: str
    why: str


NO_ENCODER = "ffmpeg has no encoder"
