"""Write a catalogue of what trained networks say of the galaxies of any source: pairs, images alone, spectra alone."""

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mmagn.cli.command_line import exit_code
from mmagn.config.run_config import config_from_namespace, config_parser, parse_arguments
from mmagn.storage.tables import SUFFIXES


def base_config(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with the settings of the first --run as base, where no other --config is given."""
    runs = [text for option, text in pairwise(arguments) if option == "--run"]
    runs += [text.removeprefix("--run=") for text in arguments if text.startswith("--run=")]
    if not runs or "--config" in arguments or not Path(runs[0], "config.yaml").is_file():
        return list(arguments)
    return ["--config", f"{runs[0]}/config.yaml", *arguments]


def main(arguments: Sequence[str]) -> int:
    """Return the exit code of ``predict.py``."""
    parser = config_parser(f"{__doc__} Settings are those of the first run; --data.* says where the galaxies are.")
    run_help = "run folder of train.py, or of ablate.py with its members; give it again for an ensemble of runs"
    parser.add_argument("--run", action="append", required=True, help=run_help)
    parser.add_argument("--out", required=True, help=f"catalogue to write: {', '.join(SUFFIXES)}")
    objects = ("pairs", "images", "spectra", "all")
    parser.add_argument("--objects", choices=objects, default="pairs", help="images and spectra are those alone")
    parser.add_argument("--variant", default="fused", help="which model of an ablation")
    parser.add_argument("--prevalence", type=float, help="fraction of AGN among these galaxies; default as in training")
    parser.add_argument("--workers", type=int, default=0, help="processes that read and decode; 0 takes threads")
    namespace = parse_arguments(parser, base_config(arguments))

    def action() -> None:
        from mmagn.prediction.predict import predict  # after parsing, so that --help need not wait for torch

        predict(
            config_from_namespace(parser, namespace),
            [Path(run) for run in namespace.run],
            Path(namespace.out),
            objects=namespace.objects,
            variant=namespace.variant,
            prevalence=namespace.prevalence,
            workers=namespace.workers,
        )

    return exit_code(action)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
