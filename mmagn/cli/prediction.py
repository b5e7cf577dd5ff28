"""Commands that use trained runs: predict, embed, explain."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmagn.cli.arguments import ConfigParser, number, run_folder
from mmagn.cli.command_line import command
from mmagn.cli.galaxy import OBJECTS_HELP, add_galaxy_options, named_galaxy, with_objects
from mmagn.storage.tables import SUFFIXES

HATS_PREFIX = "hats:"
"""Beginning of the name of an output that is a HATS catalogue."""
_RUN = "checkpoints/20260101-120000-fused"
_LISTED = (
    *("data.source", "data.root", "data.table", "data.cells", "data.redshift_max"),
    *("matching.radius_arcsec", "training.device"),
)


def _run_parser(
    command: Callable[[Sequence[str]], int],
    where: str,
    examples: Sequence[str],
    *,
    members: bool,
    several: bool = False,
) -> ConfigParser:
    """Parser of a command that uses trained runs, one or ``several``, those of an ablation with ``members``.

    ``where`` is what ``--data.*`` are about; ``examples`` are what may follow the name of the command.
    """
    note = f" Settings are those of the {'first ' if several else ''}run; --data.* says where the {where}."
    lines = [f"mmagn {command.__name__} {example}" for example in examples]
    parser = ConfigParser(command, lines, note, listed=_LISTED, base="--run")
    text = f"folder of train{', or of ablate with its members' if members else ''}, or hf://ORG/NAME[@REVISION]"
    action, text = ("append", f"{text}; repeat it for an ensemble") if several else ("store", text)
    parser.add_argument("--run", action=action, type=run_folder, required=True, metavar="RUN", help=text)
    if members:
        parser.add_argument("--variant", default="fused", help="which model of an ablation")
    return parser


@command
def predict(arguments: Sequence[str]) -> None:
    """Write a catalogue of what trained networks predict for the galaxies of any source."""
    parser = _run_parser(
        predict,
        "galaxies are",
        [
            f"--run {_RUN} --out scores.votable",
            f"--run {_RUN} --objects all --out scores.parquet",
            f"--run {_RUN} --data.source hdf5 --data.root DIR --out scores.fits",
            "--run hf://ORG/NAME --data.source hdf5 --data.root DIR --out scores.ecsv",
            f"--run {_RUN} --data.source files --data.table objects.csv --out scores.ecsv",
            f"--run {_RUN} --spectrum spec-0295-51585-0596.fits --image 'cutout-HSC-*.fits'",
            f"--run {_RUN} --prevalence 0.05 --out scores.csv",
            "--run checkpoints/20260101-120000-ablation --variant image --out scores.parquet",
        ],
        members=True,
        several=True,
    )
    suffixes = ", ".join(SUFFIXES)
    out_help = f"catalogue to write: {suffixes}, or {HATS_PREFIX}FOLDER on Dask; not needed with --spectrum, --image"
    parser.add_argument("--out", help=out_help)
    kinds = ("pairs", "images", "spectra", "all")
    objects_help = f"{', '.join(kinds)} (images and spectra are those alone), or a {OBJECTS_HELP}"
    parser.add_argument("--objects", metavar="WHICH", help=objects_help)
    add_galaxy_options(parser)
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

    config, options = parser.parsed(arguments)
    from mmagn import pipeline  # after parsing, so that --help need not wait for torch
    from mmagn.prediction.predict import PredictionOptions

    if (options.spectrum or options.image) and options.objects is not None:
        parser.error("--objects chooses among many galaxies, but --spectrum and --image name one")
    on_dask = (options.out or "").startswith(HATS_PREFIX)
    names = ("spectrum", "image", "prevalence", "workers")
    unused = [name for name in names if getattr(options, name) is not None]
    unused += ["objects"] if options.objects in ("pairs", "images", "spectra") else []
    if on_dask and unused:
        parser.error(
            f"--{', --'.join(unused)} is not for --out {HATS_PREFIX}FOLDER, which has all galaxies with a "
            "spectrum, at the prevalence of the training, with dask.workers"
        )
    galaxy = named_galaxy(options, config)
    if galaxy is None and options.out is None:
        parser.error("--out is needed, or --spectrum or --image of one galaxy")
    objects: Any = options.objects or ("all" if config.data.source == "files" else "pairs")
    if objects not in kinds:
        if not Path(objects).suffix:
            parser.error(f"--objects is {objects}; allowed: {', '.join(kinds)}, or a table of objects")
        config, objects = with_objects(config, objects), "all"
    if on_dask:
        from mmagn.prediction.hats_catalog import predict_hats  # its libraries are an optional extra

        predict_hats(config, options.run, Path(options.out.removeprefix(HATS_PREFIX)), options.variant)
        return
    requested = PredictionOptions(
        objects=objects,
        galaxies=() if galaxy is None else (galaxy,),
        variant=options.variant,
        prevalence=options.prevalence,
        workers=options.workers,
    )
    pipeline.predict(config, options.run, Path(options.out) if options.out else None, requested)


@command
def embed(arguments: Sequence[str]) -> None:
    """Write what the head of a trained network sees of each pair: an id and a vector."""
    parser = _run_parser(
        embed,
        "pairs are",
        [
            f"--run {_RUN} --out vectors.parquet",
            f"--run {_RUN} --data.source store --data.root STORE --out vectors.parquet",
        ],
        members=False,
    )
    parser.add_argument("--out", required=True, help="Parquet file to write, with the columns id and embedding")

    config, options = parser.parsed(arguments)
    from mmagn.prediction.embed import write_embeddings  # after parsing, so that --help need not wait for torch

    write_embeddings(config, options.run, Path(options.out))


@command
def explain(arguments: Sequence[str]) -> None:
    """Show what a prediction for one galaxy rests on: maps over image and spectrum, importance of the features."""
    parser = _run_parser(
        explain,
        "galaxy is",
        [
            f"299489677444933632 --run {_RUN} --out figures",
            "299489677444933632 --run checkpoints/20260101-120000-ablation --variant fused",
            f"299489677444933632 --run {_RUN} --data.source store --data.root STORE",
            f"--run {_RUN} --spectrum spec-0295-51585-0596.fits",
        ],
        members=True,
    )
    parser.add_argument("object_id", nargs="?", help="SDSS or HSC object_id of the galaxy")
    add_galaxy_options(parser)
    parser.add_argument("--out", default=".", help="folder of OBJECT_ID.png and OBJECT_ID.json")

    config, options = parser.parsed(arguments)
    from mmagn import pipeline  # after parsing, so that --help need not wait for torch

    about = named_galaxy(options, config, options.object_id) or options.object_id
    if about is None:
        parser.error("the object_id of a galaxy is needed, or --spectrum or --image")
    pipeline.explain(config, options.run, about, Path(options.out), variant=options.variant)
