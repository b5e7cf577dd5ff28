"""Train on matched pairs and score the result: the whole way from sky to score."""

import sys
from collections.abc import Sequence

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``train.py``."""
    parser = config_parser(__doc__ or "")
    parser.add_argument("--resume", default="", help="run folder to go on with, whose settings are the base; or auto")
    if "--resume" in arguments[:-1] and "--config" not in arguments:
        run = arguments[list(arguments).index("--resume") + 1]
        arguments = arguments if run == "auto" else ["--config", f"{run}/config.yaml", *arguments]
    namespace = parse_arguments(parser, arguments)

    def action() -> int:
        from mmagn.pipeline import train  # after parsing, so that --help need not wait for torch

        return train(config_from_namespace(parser, namespace), resume=namespace.resume).exit_code

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
