"""Commands that use trained runs: predict, explain."""

from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.arguments import ConfigParser, number, run_folder
from mmagn.cli.command_line import exit_code
from mmagn.storage.tables import SUFFIXES

_LISTED = ("data.source", "data.root", "data.cells", "data.redshift_max", "matching.radius_arcsec", "training.device")


def predict(arguments: Sequence[str]) -> int:
    """Write a catalogue of what trained networks predict for the galaxies of any source."""
    run = "checkpoints/20260101-120000-fused"
    parser = ConfigParser(
        "predict",
        f"{predict.__doc__} Settings are those of the first run; --data.* says where the galaxies are.",
        [
            f"mmagn predict --run {run} --out scores.votable",
            f"mmagn predict --run {run} --objects all --out scores.parquet",
            f"mmagn predict --run {run} --data.source hdf5 --data.root DIR --out scores.fits",
            "mmagn predict --run hf://ORG/NAME --data.source hdf5 --data.root DIR --out scores.ecsv",
            f"mmagn predict --run {run} --prevalence 0.05 --out scores.csv",
            "mmagn predict --run checkpoints/20260101-120000-ablation --variant image --out scores.parquet",
        ],
        listed=_LISTED,
        base="--run",
    )
    run_help = "folder of train, or of ablate with its members, or hf://ORG/NAME[@REVISION]; repeat it for an ensemble"
    parser.add_argument("--run", action="append", type=run_folder, required=True, metavar="RUN", help=run_help)
    parser.add_argument("--out", required=True, help=f"catalogue to write: {', '.join(SUFFIXES)}")
    objects = ("pairs", "images", "spectra", "all")
    parser.add_argument("--objects", choices=objects, default="pairs", help="images and spectra are those alone")
    parser.add_argument("--variant", default="fused", help="which model of an ablation")
    parser.add_argument(
        "--prevalence",
        type=number(float, above=0, below=1),
        help="fraction of AGN among these galaxies; default as in training",
    )
    parser.add_argument(
        "--workers",
        type=number(int, at_least=0, at_most=256),
        help="processes that read and decode; 0: threads; default by cores",
    )

    def action() -> None:
        config, options = parser.parsed(arguments)
        from mmagn import pipeline  # after parsing, so that --help need not wait for torch
        from mmagn.prediction.predict import PredictionOptions

        requested = PredictionOptions(
            objects=options.objects,
            variant=options.variant,
            prevalence=options.prevalence,
            workers=options.workers,
        )
        pipeline.predict(config, options.run, Path(options.out), requested)

    return exit_code(action)


def explain(arguments: Sequence[str]) -> int:
    """Show what a prediction for one galaxy rests on: maps over image and spectrum, importance of the features."""
    run = "checkpoints/20260101-120000-fused"
    parser = ConfigParser(
        "explain",
        f"{explain.__doc__} Settings are those of the run; --data.* says where the galaxy is.",
        [
            f"mmagn explain 299489677444933632 --run {run} --out figures",
            "mmagn explain 299489677444933632 --run checkpoints/20260101-120000-ablation --variant fused",
            f"mmagn explain 299489677444933632 --run {run} --data.source store --data.root STORE",
        ],
        listed=_LISTED,
        base="--run",
    )
    parser.add_argument("object_id", help="SDSS or HSC object_id of the galaxy")
    run_help = "folder of a training run, or of an ablation with members, or hf://ORG/NAME[@REVISION]"
    parser.add_argument("--run", type=run_folder, required=True, metavar="RUN", help=run_help)
    parser.add_argument("--out", default=".", help="folder of OBJECT_ID.png and OBJECT_ID.json")
    parser.add_argument("--variant", default="fused", help="which model of an ablation")

    def action() -> None:
        config, options = parser.parsed(arguments)
        from mmagn import pipeline  # after parsing, so that --help need not wait for torch

        pipeline.explain(config, options.run, options.object_id, Path(options.out), variant=options.variant)

    return exit_code(action)
