"""The command ``mmagn ablate``."""

import sys

from mmagn.cli.runs import ablate as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
