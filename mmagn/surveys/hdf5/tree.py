"""Which files of a Multimodal Universe v1 tree hold which survey and which cell."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmagn.surveys.config import DEFAULT_SPECTRA, DESI, DataConfig
from mmagn.surveys.reader import warn_once

_CELL_NAME = re.compile(r"healpix=(0|[1-9]\d*)")


@dataclass(frozen=True, kw_only=True, slots=True)
class SurveyFile:
    """One file of a HEALPix cell (NSIDE 16, NESTED), which its directory names."""

    path: Path
    cell: int

    @property
    def instrument(self) -> str:
        """``sdss``, ``desi`` or ``hsc``."""
        return instrument_of(self.path)


def instrument_of(path: Path) -> str:
    """Return which instrument a file of a tree is of, ``sdss``, ``desi`` or ``hsc``: the folder above its survey."""
    return path.parents[2].name


def spectra_files(config: DataConfig) -> list[SurveyFile]:
    """Return the files of spectra wanted, in the order of ``data.spectra``, then of cells, then of names.

    Raises ``FileNotFoundError`` if the tree, all of the surveys, or all of the cells wanted are missing.
    """
    return _survey_files(config, config.spectra_folders, "data.spectra")


def hsc_files(config: DataConfig) -> list[SurveyFile]:
    """Return the HSC files wanted, in the order of cells, then of names.

    Raises ``FileNotFoundError`` if the tree, the survey, or all of the cells wanted are missing.
    """
    return _survey_files(config, (f"hsc/{config.hsc_survey}",), "data.hsc_survey")


def _survey_files(config: DataConfig, surveys: Sequence[str], setting: str) -> list[SurveyFile]:
    root = _root(config)
    folders = [root / survey for survey in surveys]
    present = [folder for folder in folders if folder.is_dir()]
    if not present:
        holds = ", ".join(
            f"{folder.name}/ holds {_listing(folder)}" for folder in dict.fromkeys(folder.parent for folder in folders)
        )
        raise FileNotFoundError(f"data.root {root} has no folder {' or '.join(surveys)} ({setting}); {holds}")
    for survey, folder in zip(surveys, folders, strict=True) if config.spectra != DEFAULT_SPECTRA else ():
        if folder not in present:
            name = f"{setting}, data.desi_survey" if survey.startswith(f"{DESI}/") else setting
            holds = f"{folder.parent.name}/ holds {_listing(folder.parent)}"
            warn_once(f"data.root {root} has no folder {survey} ({name}); {holds}")
    files = [file for folder in present for file in _cell_files(folder)]
    if not files:
        raise FileNotFoundError(f"{present[0]} holds no healpix=N/*.hdf5; it holds {_listing(present[0])}")
    wanted = [file for file in files if not config.cells or file.cell in config.cells]
    if not wanted:
        cells = sorted({file.cell for file in files})
        raise FileNotFoundError(
            f"none of data.cells {', '.join(map(str, config.cells))} is in {present[0]}; "
            f"it has {len(cells)} cells, the first of them {', '.join(map(str, cells[:10]))}"
        )
    return wanted


def _root(config: DataConfig) -> Path:
    root = Path(str(config.root)).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(
            f"data.root {root} is not a folder; expected one with {config.spectra_folders[0]}/healpix=N/*.hdf5 "
            f"and hsc/{config.hsc_survey}/healpix=N/*.hdf5"
        )
    return root


def _cell_files(folder: Path) -> list[SurveyFile]:
    """Return the files of one survey; directories with another name than ``healpix=N`` are no cells."""
    cells = {int(match[1]): child for child in folder.iterdir() if (match := _CELL_NAME.fullmatch(child.name))}
    return [
        SurveyFile(path=path, cell=cell)
        for cell in sorted(cells)
        for path in sorted(cells[cell].iterdir())
        if path.suffix == ".hdf5"
    ]


def _listing(folder: Path) -> str:
    """Return the first few names in a folder, for messages."""
    names = sorted(child.name for child in folder.iterdir()) if folder.is_dir() else []
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "nothing"
