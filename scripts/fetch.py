"""The command ``mmagn fetch``."""

import sys

from mmagn.cli.data import fetch as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
