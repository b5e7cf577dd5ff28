"""The command ``mmagn train``."""

import sys

from mmagn.cli.runs import train as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
