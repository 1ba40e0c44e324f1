"""What the paper prints for the rows of the grid (tables 1, 6, 7, 10 and 11), and what the numbers are."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Printed:
    """The meaning of a table's numbers, and the numbers by row."""

    meaning: str
    rows: Mapping[str, str] = field(default_factory=dict[str, str])


PRINTED = {
    "1": Printed(
        "correctness / temporal, 0 to 5",
        {
            "tuned-mean": "2.38 / 1.93",
            "tuned-st-pooling": "2.40 / 1.98",
            "tuned-joint-st": "1.92 / 2.11",
            "tuned-separate-st-open": "2.10 / 2.13",
            "tuned-separate-st": "2.29 / 2.01",
            "tuned-bt-adapter": "2.55 / 2.26",
        },
    ),
    "6": Printed(
        "R@1 MSR-VTT / DiDeMo / temporal",
        {
            "clip": "35.4 / 30.3 / 1.78",
            "separate-st-last": "35.7 / 31.0 / 1.81",
            "branch-alone": "37.4 / 32.9 / 1.97",
            "vtc": "38.5 / 33.9 / 2.06",
        },
    ),
    "7": Printed(
        "R@1 MSR-VTT / DiDeMo",
        {
            "vtc": "38.5 / 33.9",
            "vtc-mbta": "39.3 / 34.3",
            "vtc-mbca": "40.1 / 34.9",
            "bt-adapter": "40.9 / 35.6",
        },
    ),
    "10": Printed(
        "R@1 MSR-VTT / correctness / temporal",
        {
            "clip": "35.4 / 2.06 / 1.78",
            "st-adapter": "33.6 / 1.52 / 1.71",
            "stan-open": "40.5 / 1.84 / 1.77",
            "stan-frozen": "38.1 / 2.07 / 1.92",
            "bt-adapter": "40.9 / 2.16 / 2.13",
        },
    ),
    "11": Printed(
        "R@1 MSR-VTT / DiDeMo",
        {
            "projection-none": "39.1 / 33.5",
            "projection-random": "39.3 / 34.0",
            "bt-adapter": "40.9 / 35.6",
            "addition": "40.0 / 34.4",
            "concatenation": "39.8 / 34.5",
        },
    ),
    "F3": Printed("a plateau at 4 to 6 of 24 layers"),
    "F4": Printed("flat up to 70 %, falling above"),
    "R": Printed("not in the paper"),
}
