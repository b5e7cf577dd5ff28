"""Draw one spectrum with its fit: continuum, lines, residuals."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``plot_spectrum.py``."""
    parser = config_parser(__doc__ or "")
    parser.add_argument("object_id", help="SDSS object_id of the spectrum")
    parser.add_argument("--out", default=".", help="folder of the picture, OBJECT_ID.png")
    namespace = parse_arguments(parser, arguments)

    def action() -> None:
        from mmagn.prediction.inspect import plot_spectrum  # after parsing, so that --help need not wait for torch

        print(plot_spectrum(config_from_namespace(parser, namespace), namespace.object_id, Path(namespace.out)))

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
