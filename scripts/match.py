"""Match both surveys and write the pairs to a store on disk, or say what a match would find and why."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``match.py``."""
    parser = config_parser(__doc__ or "")
    parser.add_argument("--out", required=True, help="folder of the store; datasets.load_from_disk opens it too")
    parser.add_argument("--plan", action="store_true", help="read positions only; --out gets figures and plan.json")
    parser.add_argument("--push", metavar="ORG/NAME", help="upload the store as this dataset repository, with a card")
    namespace = parse_arguments(parser, arguments)
    if namespace.plan and namespace.push:
        parser.error("--plan makes no store that --push could upload; leave one of them out")

    def action() -> None:
        from mmagn.pipeline import match, plan  # after parsing, so that --help need not wait for torch

        config = config_from_namespace(parser, namespace)
        if namespace.plan:
            plan(config, Path(namespace.out))
        else:
            match(config, Path(namespace.out), push=namespace.push)

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
