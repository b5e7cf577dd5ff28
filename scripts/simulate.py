"""The command ``mmagn simulate``."""

import sys

from mmagn.cli.data import simulate as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
