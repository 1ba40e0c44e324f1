"""What a video may cost before and while it is decoded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Bounds on one file. The time and memory of the process around it are bounded from outside.

    `max_pixels` is of one frame (4096 x 4096), `max_decoded_bytes` of all the frames handed back,
    `max_packets` of the whole video stream; `max_file_bytes` is for decord, which holds the file in memory.
    """

    max_pixels: int = 4096 * 4096
    min_side: int = 16
    max_seconds: float = 12 * 3600.0
    max_streams: int = 8
    max_packets: int = 4_000_000
    max_decoded_bytes: int = 512 * 1024**2
    max_file_bytes: int = 1024**3
