"""Commands that use trained runs: predict, explain."""

from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.arguments import ConfigParser
from mmagn.cli.command_line import exit_code
from mmagn.storage.tables import SUFFIXES

_SHOWN = ("data.source", "data.root", "data.cells", "data.redshift_max", "matching.radius_arcsec", "training.device")


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
            f"mmagn predict --run {run} --prevalence 0.05 --out scores.csv",
            "mmagn predict --run checkpoints/20260101-120000-ablation --variant image --out scores.parquet",
        ],
        shown=_SHOWN,
        base="--run",
    )
    run_help = "run folder of train, or of ablate with its members; repeat it for an ensemble of runs"
    parser.add_argument("--run", action="append", required=True, metavar="RUN", help=run_help)
    parser.add_argument("--out", required=True, help=f"catalogue to write: {', '.join(SUFFIXES)}")
    objects = ("pairs", "images", "spectra", "all")
    parser.add_argument("--objects", choices=objects, default="pairs", help="images and spectra are those alone")
    parser.add_argument("--variant", default="fused", help="which model of an ablation")
    parser.add_argument("--prevalence", type=float, help="fraction of AGN among these galaxies; default as in training")
    parser.add_argument("--workers", type=int, default=0, help="processes that read and decode; 0 takes threads")

    def action() -> None:
        config, options = parser.parsed(arguments)
        from mmagn.prediction.predict import predict as write_catalogue  # after parsing: --help need not wait for torch

        write_catalogue(
            config,
            [Path(each) for each in options.run],
            Path(options.out),
            objects=options.objects,
            variant=options.variant,
            prevalence=options.prevalence,
            workers=options.workers,
        )

    return exit_code(action)


def explain(arguments: Sequence[str]) -> int:
    """Show what a prediction for one galaxy rests on: maps over image and spectrum, importance of the features."""
    run = "checkpoints/20260101-120000-fused"
    parser = ConfigParser(
        "explain",
        f"{explain.__doc__} Settings are those of the run; --data.* says where the galaxy is.",
        [
            f"mmagn explain 299489677444933632 --run {run} --out figures",
            f"mmagn explain 299489677444933632 --run {run} --split validation",
            f"mmagn explain 299489677444933632 --run {run} --data.source store --data.root STORE",
        ],
        shown=_SHOWN,
        base="--run",
    )
    parser.add_argument("object_id", help="SDSS or HSC object_id of the galaxy")
    parser.add_argument("--run", required=True, help="folder of a training run")
    parser.add_argument("--out", default=".", help="folder of OBJECT_ID.png and OBJECT_ID.json")
    parser.add_argument("--split", choices=("validation", "test"), default="test", help="objects behind the importance")

    def action() -> None:
        config, options = parser.parsed(arguments)
        from mmagn.prediction.explain import explain as explain_galaxy  # after parsing: --help need not wait for torch

        explain_galaxy(config, Path(options.run), options.object_id, Path(options.out), split=options.split)

    return exit_code(action)
