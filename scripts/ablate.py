"""Compare models that see more or less of a galaxy on the same folds: the leakage ladder, with baselines beside it."""

import sys
from collections.abc import Sequence

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``ablate.py``."""
    parser = config_parser(__doc__ or "")
    namespace = parse_arguments(parser, arguments)

    def action() -> None:
        from mmagn.ablation.ablate import ablate  # after parsing, so that --help need not wait for torch

        ablate(config_from_namespace(parser, namespace))

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
