"""Exit 0 when this container's server lives, also while its model is loaded."""

import os
import sys
from urllib.error import URLError
from urllib.request import urlopen

URL = f"http://127.0.0.1:{os.environ.get('BTCHAT_PORT', '8000')}/health/live"

try:
    with urlopen(URL, timeout=4):
        sys.exit(0)
except (URLError, OSError) as error:
    sys.stderr.write(f"{URL}: {error}\n")
    sys.exit(1)
