"""The command ``mmagn embed``."""

import sys

from mmagn.cli.prediction import embed as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
