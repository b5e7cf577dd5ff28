"""The command ``mmagn report``."""

import sys

from mmagn.cli.runs import report as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
