"""The command ``mmagn push``."""

import sys

from mmagn.cli.runs import push as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
