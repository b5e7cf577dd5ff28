"""The command ``mmagn match``."""

import sys

from mmagn.cli.data import match as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
