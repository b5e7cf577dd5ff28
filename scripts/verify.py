"""The command ``mmagn verify``."""

import sys

from mmagn.cli.runs import verify as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
