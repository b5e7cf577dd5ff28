"""The command ``mmagn predict``."""

import sys

from mmagn.cli.prediction import predict as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
