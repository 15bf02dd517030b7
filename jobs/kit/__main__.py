"""`python -m consortium_kit` is the command `consortium`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
