"""Commands that use trained runs: predict, embed, explain."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmagn.cli.arguments import ConfigParser, number, run_folder
from mmagn.cli.command_line import exit_code
from mmagn.cli.galaxy import OBJECTS_HELP, add_galaxy_options, named_galaxy, with_objects
from mmagn.storage.tables import SUFFIXES

_LISTED = (
    *("data.source", "data.root", "data.table", "data.cells", "data.redshift_max"),
    *("matching.radius_arcsec", "training.device"),
)


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
            f"mmagn predict --run {run} --data.source files --data.table objects.csv --out scores.ecsv",
            f"mmagn predict --run {run} --spectrum spec-0295-51585-0596.fits --image 'cutout-HSC-*.fits'",
            f"mmagn predict --run {run} --prevalence 0.05 --out scores.csv",
            "mmagn predict --run checkpoints/20260101-120000-ablation --variant image --out scores.parquet",
        ],
        listed=_LISTED,
        base="--run",
    )
    run_help = "folder of train, or of ablate with its members, or hf://ORG/NAME[@REVISION]; repeat it for an ensemble"
    parser.add_argument("--run", action="append", type=run_folder, required=True, metavar="RUN", help=run_help)
    out_help = f"catalogue to write: {', '.join(SUFFIXES)}, or hats:FOLDER on Dask; not needed with --spectrum, --image"
    parser.add_argument("--out", help=out_help)
    kinds = ("pairs", "images", "spectra", "all")
    objects_help = f"{', '.join(kinds)} (images and spectra are those alone), or a {OBJECTS_HELP}"
    parser.add_argument("--objects", metavar="WHICH", help=objects_help)
    add_galaxy_options(parser)
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

        if (options.spectrum or options.image) and options.objects is not None:
            parser.error("--objects chooses among many galaxies, but --spectrum and --image name one")
        galaxy = named_galaxy(options, config)
        if galaxy is None and options.out is None:
            parser.error("--out is needed, or --spectrum or --image of one galaxy")
        objects: Any = options.objects or ("all" if config.data.source == "files" else "pairs")
        if objects not in kinds:
            if not Path(objects).suffix:
                parser.error(f"--objects is {objects}; allowed: {', '.join(kinds)}, or a table of objects")
            config, objects = with_objects(config, objects), "all"
        requested = PredictionOptions(
            objects=objects,
            galaxies=() if galaxy is None else (galaxy,),
            variant=options.variant,
            prevalence=options.prevalence,
            workers=options.workers,
        )
        out = Path(options.out) if options.out else None
        if options.out and options.out.startswith("hats:"):
            if objects == "images" or options.prevalence is not None or galaxy is not None:
                parser.error("--out hats:FOLDER is for all galaxies with a spectrum, at the prevalence of the training")
            from mmagn.prediction.hats_catalog import predict_hats  # its libraries are an optional extra

            predict_hats(config, options.run, Path(options.out.removeprefix("hats:")), options.variant)
            return
        pipeline.predict(config, options.run, out, requested)

    return exit_code(action)


def embed(arguments: Sequence[str]) -> int:
    """Write what the head of a trained network sees of each pair: an id and a vector."""
    run = "checkpoints/20260101-120000-fused"
    parser = ConfigParser(
        "embed",
        f"{embed.__doc__} Settings are those of the run; --data.* says where the pairs are.",
        [
            f"mmagn embed --run {run} --out vectors.parquet",
            f"mmagn embed --run {run} --data.source store --data.root STORE --out vectors.parquet",
        ],
        listed=_LISTED,
        base="--run",
    )
    parser.add_argument("--run", required=True, help="folder of a training run")
    parser.add_argument("--out", required=True, help="Parquet file to write, with the columns id and embedding")

    def action() -> None:
        config, options = parser.parsed(arguments)
        from mmagn.prediction.embed import write_embeddings  # after parsing, so that --help need not wait for torch

        count = write_embeddings(config, Path(options.run), Path(options.out))
        sys.stdout.write(f"{options.out}: {count} vectors\n")

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
            f"mmagn explain --run {run} --spectrum spec-0295-51585-0596.fits",
        ],
        listed=_LISTED,
        base="--run",
    )
    parser.add_argument("object_id", nargs="?", help="SDSS or HSC object_id of the galaxy")
    add_galaxy_options(parser)
    run_help = "folder of a training run, or of an ablation with members, or hf://ORG/NAME[@REVISION]"
    parser.add_argument("--run", type=run_folder, required=True, metavar="RUN", help=run_help)
    parser.add_argument("--out", default=".", help="folder of OBJECT_ID.png and OBJECT_ID.json")
    parser.add_argument("--variant", default="fused", help="which model of an ablation")

    def action() -> None:
        config, options = parser.parsed(arguments)
        from mmagn import pipeline  # after parsing, so that --help need not wait for torch

        about = named_galaxy(options, config, options.object_id) or options.object_id
        if about is None:
            parser.error("the object_id of a galaxy is needed, or --spectrum or --image")
        pipeline.explain(config, options.run, about, Path(options.out), variant=options.variant)

    return exit_code(action)
