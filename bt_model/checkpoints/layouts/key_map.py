"""Names of tensors in published checkpoints: one layout, in both directions.

Our names are `<part>.<parameter>`. Parts: vision (ClipVisionTower), adapter (BTAdapter), text
(ClipTextTower), extra_proj (pre-training head), qformer, projector and lm (chat model).
The layouts are in layouts*.py; which one a file has is found in detect.py.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Pairs = tuple[tuple[str, str], ...]
Shape = tuple[int, ...]

PARTS = ("vision", "adapter", "text", "extra_proj", "qformer", "projector", "lm")
BUFFER = "a constant buffer"

_THIRDS = ("q_proj", "k_proj", "v_proj")
_FUSED = re.compile(r"(.+\.)qkv\.(weight|bias)")
_APART = re.compile(r"(.+\.)(q|v)_bias")


@dataclass(frozen=True, slots=True)
class Stored:
    """How a checkpoint stores one of our parameters: as a whole tensor, or as one third of its rows.

    The stored tensor has `leading` additional axes of length 1; a transposed matrix has its axes exchanged.
    """

    key: str
    third: int | None = None
    leading: int = 0
    is_transposed: bool = False

    def shape(self, published: Shape) -> Shape:
        """The shape of our parameter, of the published tensor's."""
        shape = published
        if self.leading and published[: self.leading] == (1,) * self.leading:
            shape = published[self.leading :]
        if self.third is not None:
            shape = (shape[0] // len(_THIRDS), *shape[1:])
        return shape[::-1] if self.is_transposed else shape

    def take(self, published: "Tensor") -> "Tensor":
        """Our parameter out of the published tensor."""
        tensor = published if self.third is None else published.chunk(len(_THIRDS))[self.third]
        tensor = tensor.t() if self.is_transposed else tensor
        return tensor.reshape(self.shape(tuple(published.shape))).contiguous()


@dataclass(frozen=True, slots=True)
class KeyMap:
    """One layout: published names beside ours, and the published names that are left out with the reason.

    A name of `pairs` that ends in a dot is a prefix; the rest of a name is then renamed by the part's `inner`
    pairs, (published, ours). `leading` counts the additional first axes of length 1, by our name.
    `layer_offset` is the index of the trunk layer that the file calls 0.
    `ends_early` says that the file holds every branch layer but the last, which the chat output does not
    need. Names that do not start with `only_under` belong to other parts of a larger model and are left out.
    """

    name: str
    pairs: Pairs
    inner: Mapping[str, Pairs] = field(default_factory=dict[str, Pairs])
    dropped: Pairs = ()
    leading: Mapping[str, int] = field(default_factory=lambda: {"adapter.cls_token": 2})
    transposed: frozenset[str] = frozenset()
    layer_offset: int = 0
    ends_early: bool = False
    only_under: str = ""

    def ours(self, key: str) -> str | None:
        """The published name as ours, or None where the layout has no such name or leaves it out.

        For a fused tensor the result ends in `qkv.weight`, `qkv.bias`, `q_bias` or `v_bias`.
        """
        if self.why_dropped(key) is not None:
            return None
        for published, ours in self.pairs:
            if (below := _below(published, key)) is not None:
                name = ours + _substituted(below, self.inner.get(_part(ours), ()))
                return _shift(name, self.layer_offset)
        return None

    def stored(self, key: str) -> dict[str, Stored]:
        """Our parameters that a published tensor holds, each with its slice."""
        name = self.ours(key)
        if name is None:
            return {}
        if fused := _FUSED.fullmatch(name):
            prefix, kind = fused.groups()
            return {f"{prefix}{third}.{kind}": Stored(key, i) for i, third in enumerate(_THIRDS)}
        if apart := _APART.fullmatch(name):
            return {f"{apart[1]}{apart[2]}_proj.bias": Stored(key)}
        leading = self.leading.get(name, 0)
        return {name: Stored(key, None, leading, name in self.transposed)}

    def published(self, name: str) -> str | None:
        """The layout's name for ours, or None where it does not hold that tensor."""
        shifted = _shift(name, -self.layer_offset)
        for published, ours in self.pairs:
            if shifted is not None and (below := _below(ours, shifted)) is not None:
                inner = tuple((new, old) for old, new in self.inner.get(_part(ours), ()))
                return published + _substituted(below, inner)
        return None

    def why_dropped(self, key: str) -> str | None:
        """The reason for leaving a published name out, or None."""
        if not key.startswith(self.only_under):
            return f"not under {self.only_under}: another part of a larger model"
        return next((why for pattern, why in self.dropped if fnmatchcase(key, pattern)), None)

    def is_fused(self, part: str) -> bool:
        """Whether a part's queries, keys and values are one tensor."""
        return any("qkv." in ours for _, ours in self.inner.get(part, ()))

    def has_biases_apart(self, part: str) -> bool:
        """Whether query and value biases are separate tensors, without one for the keys."""
        return any(ours.endswith("q_bias") for _, ours in self.inner.get(part, ()))


def _part(name: str) -> str:
    return name.split(".", 1)[0]


def _below(start: str, name: str) -> str | None:
    """The rest of `name` after the prefix `start`, empty if they are equal, None if it does not match."""
    if start.endswith(".") and name.startswith(start):
        return name.removeprefix(start)
    return "" if name == start else None


def _substituted(name: str, inner: Pairs) -> str:
    """A name with the first matching pair replaced; a match begins at the start or after a dot."""
    dotted = f".{name}"
    for before, after in inner:
        if f".{before}" in dotted:
            return dotted.replace(f".{before}", f".{after}", 1)[1:]
    return name


def under(prefix: str, pairs: Pairs) -> Pairs:
    """The pairs with a prefix before each published name."""
    return tuple((prefix + old, new) for old, new in pairs)


def renamed(pairs: Pairs, word: str) -> Pairs:
    """The pairs with another word for `btadapter`."""
    return tuple((old.replace("btadapter", word), new) for old, new in pairs)


def _shift(name: str, offset: int) -> str | None:
    match = re.fullmatch(r"vision\.layers\.(\d+)\.(.+)", name)
    if match is None or offset == 0:
        return name
    index = int(match[1]) + offset
    return f"vision.layers.{index}.{match[2]}" if index >= 0 else None
