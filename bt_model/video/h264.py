"""Whether H.264 pictures are missing: a decoder fills such gaps without a word, from what it has decoded.

Names are those of the standard (ITU-T H.264, 7.3).
"""

from collections.abc import Iterator

_SLICE, _IDR_SLICE, _SPS = 1, 5, 7
_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)  # profiles whose SPS says more
_START = b"\x00\x00\x01"
_SPS_AT = 8  # in parameters that are not in a unit
_HEAD_BYTES = 64  # of a unit; all that is looked at is in its first bytes


class FrameNumbers:
    """Counts the reference pictures of a stream, packet by packet.

    Raises:
        ValueError: the stream's parameters are cut off.
    """

    def __init__(self, extradata: bytes | None) -> None:
        extradata = extradata or b""
        if extradata[:1] == b"\x01" and len(extradata) <= _SPS_AT:
            raise ValueError
        self._length_bytes = 1 + (extradata[4] & 3) if extradata[:1] == b"\x01" else 0  # else start codes
        self._bits = 0  # of a frame_num
        self._expected: int | None = None
        if self._length_bytes:
            self._learn(extradata[_SPS_AT:])
        else:
            self.follows(extradata)

    def follows(self, packet: bytes) -> bool:
        """Whether no reference picture is missing before the picture in this packet, as far as it says."""
        for unit in _units(packet, self._length_bytes):
            kind = unit[0] & 31
            if kind == _SPS:
                self._learn(unit)
            elif kind in (_SLICE, _IDR_SLICE):
                return self._is_next(unit, is_idr=kind == _IDR_SLICE)
        return False

    def _learn(self, sps: bytes) -> None:
        bits = _Bits(sps[4:])
        bits.golomb()
        if int.from_bytes(sps[1:2], "big") in _WITH_CHROMA:
            has_planes = bits.golomb() == 3 and bits.take(1)  # noqa: PLR2004 - 4:4:4
            bits.golomb()
            bits.golomb()
            bits.take(1)
            if has_planes or bits.take(1):  # scaling matrices
                self._bits = 0
                return
        self._bits = bits.golomb() + 4

    def _is_next(self, unit: bytes, *, is_idr: bool) -> bool:
        if not 4 <= self._bits <= 16:  # noqa: PLR2004 - what the standard allows
            return False
        bits = _Bits(unit[1:])
        for _ in ("first_mb_in_slice", "slice_type", "pic_parameter_set_id"):
            bits.golomb()
        number = bits.take(self._bits)
        is_next = is_idr or self._expected in (None, number)
        is_reference = bool(unit[0] & 0b1100000)
        self._expected = (number + is_reference) % (1 << self._bits)
        return is_next


class _Bits:
    """Reads the bits of a unit from its most significant on; behind its end there are ones."""

    def __init__(self, data: bytes) -> None:
        data = data.replace(b"\x00\x00\x03", b"\x00\x00") + b"\xff" * 8
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def take(self, count: int) -> int:
        self._left = max(self._left - count, 0)
        return self._value >> self._left & (1 << count) - 1

    def golomb(self) -> int:
        """ue(v)."""
        zeros = self._left - (self._value & (1 << self._left) - 1).bit_length()
        self._left = max(self._left - zeros, 0)
        return self.take(zeros + 1) - 1


def _units(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """The beginning of each NAL unit that is not empty."""
    at = 0
    while True:
        if length_bytes:
            size = int.from_bytes(packet[at : at + length_bytes], "big")
            begin, at = at + length_bytes, at + length_bytes + size
        else:
            at = packet.find(_START, at) + len(_START)
            begin, size = at, at >= len(_START)
        if not size or begin >= len(packet):
            return
        yield packet[begin : begin + _HEAD_BYTES]
