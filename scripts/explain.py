"""Show why a trained run says what it says of one galaxy: maps over image and spectrum, importance of the features."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``explain.py``."""
    parser = config_parser(f"{__doc__} Settings are those of the run; --data.* says where the galaxy is.")
    parser.add_argument("object_id", help="SDSS or HSC object_id of the galaxy")
    parser.add_argument("--run", required=True, help="folder of a training run")
    parser.add_argument("--out", default=".", help="folder of OBJECT_ID.png and OBJECT_ID.json")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="objects behind the importance")
    if "--run" in arguments[:-1] and "--config" not in arguments:
        settings = Path(arguments[list(arguments).index("--run") + 1], "config.yaml")
        arguments = ["--config", str(settings), *arguments] if settings.is_file() else arguments
    namespace = parse_arguments(parser, arguments)

    def action() -> None:
        from mmagn.prediction.explain import explain  # after parsing, so that --help need not wait for torch

        config = config_from_namespace(parser, namespace)
        explain(config, Path(namespace.run), namespace.object_id, Path(namespace.out), split=namespace.split)

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
