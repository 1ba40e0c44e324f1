"""`make soak`: minutes of cancels, evictions, restarts and injected faults, each with its figure."""

import argparse
import sys
import time
from collections.abc import Callable

from tests.soak.cancels import cancels
from tests.soak.faults import faults
from tests.soak.logprobs import logprobs
from tests.soak.rounds import rounds

PARTS: dict[str, Callable[[], str]] = {
    "cancels": cancels,
    "rounds": rounds,
    "logprobs": logprobs,
    "faults": faults,
}


def main() -> int:
    """Run the parts that are named, or all; a part that fails raises."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS])
    for name in parser.parse_args().parts or PARTS:
        begin = time.monotonic()
        figure = PARTS[name]()
        sys.stdout.write(f"{name}: {figure} ({time.monotonic() - begin:.0f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
