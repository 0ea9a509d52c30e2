"""Where the frozen program begins; an installed one begins at the console script of the same name."""

import sys

from firmware.main import main

if __name__ == "__main__":
    sys.exit(main())
