"""The command ``mmagn explain``."""

import sys

from mmagn.cli.prediction import explain as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
