"""Look for better settings on inner folds outside the test split; the same command goes on with an unfinished study."""

import sys
from collections.abc import Sequence

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``search.py``."""
    parser = config_parser(__doc__ or "")
    parser.add_argument("--dashboard", action="store_true", help="show the studies of search.storage in a browser")
    namespace = parse_arguments(parser, arguments)
    dashboard = namespace.pop("dashboard")

    def action() -> None:
        config = config_from_namespace(parser, namespace)
        if dashboard:
            from mmagn.search.storage import show_dashboard  # after parsing, so that --help need not wait for torch

            print(show_dashboard(config))
        else:
            from mmagn.search.search import search

            search(config)

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
