"""Options that name one galaxy by its files, and the list of objects that other commands take."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmagn.cli.arguments import Parser, number
from mmagn.config.run_config import RunConfig

if TYPE_CHECKING:
    from mmagn.matching.objects import Galaxy

OBJECTS_HELP = "table of the objects to take: object_id, or ra and dec, which match within matching.radius_arcsec"


def add_galaxy_options(parser: Parser, *, image: bool = True) -> None:
    """Add the options that name the files of one galaxy."""
    text = "spectrum of one galaxy: spec-*.fits, spPlate-*.fits#FIBRE, a DESI coadd, or what specutils reads"
    parser.add_argument("--spectrum", metavar="FILE", help=text)
    if image:
        text = "images of it: FITS files of bands, or a cube of five; a pattern may be quoted"
        parser.add_argument("--image", nargs="+", metavar="FILE", help=text)
        parser.add_argument("--position", metavar="RA,DEC", type=_position, help="of it in degrees")
    else:
        parser.set_defaults(image=None, position=None)
    parser.set_defaults(views=image)
    text = "redshift of the spectrum, in place of that of its file"
    parser.add_argument("--redshift", metavar="Z", type=number(float, above=-1), help=text)


def named_galaxy(options: argparse.Namespace, config: RunConfig, object_id: str | None = None) -> "Galaxy | None":
    """Return the galaxy whose files the options name, after writing which view or band is missing; None without files.

    ``ValueError`` where an ``object_id`` names a galaxy too.
    """
    if not options.spectrum and not options.image:
        if options.redshift is not None or options.position is not None:
            raise ValueError("--redshift and --position need --spectrum or --image")
        return None
    if object_id is not None:
        raise ValueError(
            f"the object_id {object_id} and --spectrum or --image name two galaxies; leave one of them out"
        )
    from mmagn.matching.galaxy_files import read_galaxy  # after parsing, so that --help need not wait for torch

    unknown = float("nan")
    galaxy = read_galaxy(
        options.spectrum or "",
        options.image or (),
        redshift=unknown if options.redshift is None else options.redshift,
        position=options.position or (unknown, unknown),
        wavelengths=config.data.wavelengths,
    )
    if galaxy.missing and options.views:
        sys.stdout.write(f"without {', '.join(galaxy.missing)}\n")
    return galaxy


def with_objects(config: RunConfig, path: str | None) -> RunConfig:
    """Return the settings with a list of objects; unchanged without one."""
    if path is None:
        return config
    if not Path(path).expanduser().is_file():
        raise FileNotFoundError(f"--objects {path} is missing; it names a table of objects")
    return replace(config, data=replace(config.data, objects=path))


def _position(text: str) -> tuple[float, float]:
    read = number(float)
    ra_deg, comma, dec_deg = text.partition(",")
    if not comma:
        raise argparse.ArgumentTypeError(f"is {text}; allowed: RA,DEC in degrees")
    return read(ra_deg), read(dec_deg)
