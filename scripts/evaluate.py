"""The command ``mmagn evaluate``."""

import sys

from mmagn.cli.runs import evaluate as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
