"""Commands around surveys and pairs: match, measure, fetch, simulate, plot-spectrum."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.arguments import ConfigParser, Parser, number
from mmagn.cli.command_line import command
from mmagn.cli.galaxy import OBJECTS_HELP, add_galaxy_options, named_galaxy, with_objects
from mmagn.config.reading import explanations, setting_from_text
from mmagn.surveys.config import DataConfig, SimulateConfig

_LISTED = (
    *("data.source", "data.root", "data.table", "data.spectra", "data.hsc_survey", "data.cells"),
    *("data.redshift_min", "data.redshift_max", "data.cache_dir", "matching.radius_arcsec", "matching.workers"),
)


@command
def match(arguments: Sequence[str]) -> None:
    """Match both surveys and write the pairs to a store on disk, or report what a match would give and why."""
    parser = ConfigParser(
        match,
        [
            "mmagn match --out STORE",
            "mmagn match --data.source hdf5 --data.root DIR --out STORE",
            "mmagn match --data.source hub --data.cells 1104,1107 --out STORE",
            "mmagn match --data.source hdf5 --data.root DIR --plan --out PLAN",
            "mmagn match --data.source hdf5 --data.root DIR --out STORE --push ORG/NAME",
        ],
        listed=_LISTED,
    )
    parser.add_argument("--out", required=True, help="folder of the store; datasets.load_from_disk opens it too")
    parser.add_argument(
        "--plan", action="store_true", help="read positions only; --out gets figures, plan.json and pairs.parquet"
    )
    parser.add_argument("--index", metavar="FILE", help="pairs.parquet of --plan: read no positions again")
    parser.add_argument("--objects", metavar="FILE", help=OBJECTS_HELP)
    parser.add_argument("--push", metavar="ORG/NAME", help="upload the store as this dataset repository, with a card")

    config, options = parser.parsed(arguments)
    if options.plan and options.push:
        parser.error("--plan makes no store that --push could upload; leave one of them out")
    if options.plan and options.index:
        parser.error("--plan makes the index that --index reads; leave one of them out")
    config = with_objects(config, options.objects)
    from mmagn.pipeline import match as match_pairs  # after parsing, so that --help need not wait for torch
    from mmagn.pipeline import plan

    if options.plan:
        plan(config, Path(options.out))
    else:
        match_pairs(config, Path(options.out), push=options.push, index=Path(options.index) if options.index else None)


@command
def measure(arguments: Sequence[str]) -> None:
    """Measure emission lines, the ten features and BPT classes into one table."""
    parser = ConfigParser(
        measure,
        [
            "mmagn measure --out lines.parquet",
            "mmagn measure --data.source hdf5 --data.root DIR --out lines.fits --workers 8",
            "mmagn measure --data.source store --data.root STORE --pairs --out pairs.parquet",
            "mmagn measure --data.source files --data.table objects.csv --out lines.ecsv",
            "mmagn measure --labels.min_snr 5 --out lines.ecsv",
            "mmagn measure --spectroscopy.continuum local --out lines.votable",
        ],
        listed=(
            *("data.source", "data.root", "spectroscopy.device", "spectroscopy.continuum", "spectroscopy.broad_balmer"),
            *("labels.seyfert_liner", "labels.min_snr", "labels.vote", "labels.retired_cut", "labels.exclude_broad"),
        ),
    )
    parser.add_argument("--out", required=True, help="table to write: .parquet, .fits, .ecsv, .csv or .votable")
    parser.add_argument("--objects", metavar="FILE", help=OBJECTS_HELP)
    parser.add_argument("--pairs", action="store_true", help="a row per pair, with image features, not per spectrum")
    parser.add_argument(
        "--workers", type=number(int, at_least=1, at_most=256), default=1, help="processes that fit lines"
    )

    config, options = parser.parsed(arguments)
    config = with_objects(config, options.objects)
    from mmagn.pipeline import measure as measure_spectra  # after parsing, so that --help need not wait for torch

    measure_spectra(config, Path(options.out), of_pairs=options.pairs, workers=options.workers)


@command
def plot_spectrum(arguments: Sequence[str]) -> None:
    """Draw one spectrum with its fit: continuum, lines, residuals."""
    parser = ConfigParser(
        plot_spectrum,
        [
            "mmagn plot-spectrum 299489677444933632 --data.source hdf5 --data.root DIR --out figures",
            "mmagn plot-spectrum --spectrum spec-0295-51585-0596.fits --out figures",
        ],
        listed=_LISTED[:6],
    )
    parser.add_argument("object_id", nargs="?", help="SDSS object_id of the spectrum")
    add_galaxy_options(parser, image=False)
    parser.add_argument("--out", default=".", help="folder of the picture, OBJECT_ID.png")

    config, options = parser.parsed(arguments)
    from mmagn import pipeline  # after parsing, so that --help need not wait for torch

    galaxy = named_galaxy(options, config, options.object_id)
    about = options.object_id if galaxy is None else galaxy.spectrum
    if about is None:
        parser.error("the object_id of a spectrum is needed, or --spectrum")
    sys.stdout.write(f"{pipeline.inspect(config, about, Path(options.out))}\n")


@command
def fetch(arguments: Sequence[str]) -> None:
    """Download the HEALPix cells of the published tree that promise the most pairs per gigabyte."""
    from mmagn.surveys.fetch import PUBLISHED_TREE, chosen_cells, fetch_cells, plan_text, remote_cells
    from mmagn.surveys.http_index import http_session

    parser = Parser(
        fetch,
        ["mmagn fetch --out DIR --max-gb 20 --dry-run", "mmagn fetch --out DIR --cells 1104,1107"],
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the tree; give it to --data.root later")
    parser.add_argument("--url", default=PUBLISHED_TREE, help="root of the published tree (default: %(default)s)")
    parser.add_argument(
        "--max-gb", type=number(float, above=0), default=20.0, help="most to download, 1e9 bytes (default: %(default)s)"
    )
    parser.add_argument("--cells", default="", help="only these cells, such as 1104,1107")
    parser.add_argument(
        "--spectra", nargs="+", default=list(DataConfig().spectra), help="surveys, such as boss or desi"
    )
    parser.add_argument("--desi-survey", default=DataConfig().desi_survey, help="DESI directory")
    parser.add_argument("--hsc-survey", default=DataConfig().hsc_survey, help="HSC directory")
    parser.add_argument(
        "--workers",
        type=number(int, at_least=1, at_most=64),
        default=4,
        help="downloads at the same time (default: %(default)s)",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan and download nothing")

    options = parser.parse_args(arguments)
    wanted = list(setting_from_text("data.cells", options.cells, DataConfig)) if options.cells else []
    with http_session() as session:
        folders = DataConfig(spectra=tuple(options.spectra), desi_survey=options.desi_survey).spectra_folders
        cells = remote_cells(session, options.url, folders, options.hsc_survey, wanted=wanted)
        chosen = chosen_cells(cells, options.max_gb)
        sys.stdout.write(f"{plan_text(cells, chosen)}\n")
        if not options.dry_run:
            moved = fetch_cells(session, options.url, chosen, options.out, workers=options.workers)
            where = f"--data.source hdf5 --data.root {options.out}"
            sys.stdout.write(f"{moved / 1e9:.3f} GB downloaded; read them with {where}\n")


@command
def simulate(arguments: Sequence[str]) -> None:
    """Write a simulated survey with known truth, of any size, in Multimodal Universe v1 layout."""
    parser = Parser(simulate, ["mmagn simulate --out DIR --pairs 2000 --seed 7"])
    parser.add_argument("--out", type=Path, required=True, help="folder to make; give it to --data.root later")
    helps, names = explanations(SimulateConfig), [field.name for field in dataclasses.fields(SimulateConfig)]
    for name in names:
        default = getattr(SimulateConfig(), name)
        text = f"{helps[f'data.simulate.{name}'].replace('``', '')} (default: {default})"
        parser.add_argument(f"--{name.replace('_', '-')}", default=str(default), metavar="N", help=text)

    options = parser.parse_args(arguments)
    texts = {name: getattr(options, name) for name in names}
    values = {name: setting_from_text(f"data.simulate.{name}", texts[name], SimulateConfig) for name in names}
    from mmagn.surveys.simulate.survey import write_survey  # after parsing, so that --help does not wait

    write_survey(options.out, SimulateConfig(**values))
    where = f"--data.source hdf5 --data.root {options.out}"
    sys.stdout.write(f"{options.out} holds {values['pairs']} pairs; read it with {where}\n")
