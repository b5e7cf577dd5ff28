"""The command ``mmagn search``."""

import sys

from mmagn.cli.runs import search as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
