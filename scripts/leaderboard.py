"""The command ``mmagn leaderboard``."""

import sys

from mmagn.cli.leaderboard import leaderboard as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
