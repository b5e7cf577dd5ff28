"""The command ``mmagn plot-spectrum``."""

import sys

from mmagn.cli.data import plot_spectrum as main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
