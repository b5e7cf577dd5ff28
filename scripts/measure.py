"""The command ``mmagn measure``."""

import sys

from mmagn.cli.data import measure as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
