"""`python -m btchat`."""

import sys

from btchat.cli import main

if __name__ == "__main__":
    sys.exit(main())
