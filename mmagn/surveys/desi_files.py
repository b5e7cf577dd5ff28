"""DESI's own files, a coadd and its redshifts, as spectra: the three arms are combined on the grid of the survey."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from mmagn.records import IVAR_LIMIT, Floats, Spectrum
from mmagn.surveys.desi import GRID_ANGSTROM, GRID_TOLERANCE_ANGSTROM, STEP_ANGSTROM, grid_spectrum
from mmagn.surveys.text import optional_text, plain_text

ARMS = ("B", "R", "Z")
SMOOTHED_PIXELS = 101
"""Pixels over which the resolution is averaged: it changes slowly, and rows of its matrix ripple."""
_UNITS = ("1e-17 erg/(s cm2 Angstrom)", "10**-17 erg/(s cm2 Angstrom)", "10^-17 erg/(s cm2 Angstrom)", "")
_SIGMA_RANGE = (0.3, 10.0)
"""Pixels; a width outside is not one of the instrument."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class _Arm:
    """One arm: its place on ``GRID_ANGSTROM``, and flux, ivar and resolution data of all targets."""

    place: slice
    flux: NDArray[Any]
    ivar: NDArray[Any]
    mask: NDArray[Any]
    resolution: NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class DesiCoadd:
    """The targets (target,) of a coadd file by TARGETID; their pixels stay in it until they are used."""

    targets: tuple[str, ...]
    _name: str
    _fibermap: Mapping[str, NDArray[Any]]
    _arms: list[_Arm]
    _redrock: Path | None
    _redshifts: Mapping[str, dict[str, Any]]

    @classmethod
    def read(cls, coadd: Path, redrock: Path | None) -> Self:
        """Return what the files hold.

        Parameters
        ----------
        coadd
            FITS file with FIBERMAP and, for each arm, WAVELENGTH, FLUX, IVAR, MASK and RESOLUTION.
        redrock
            FITS file with REDSHIFTS of the same targets, found by TARGETID; None leaves redshifts NaN.

        Raises
        ------
        ValueError
            If a file is none of these; the sentence names file and extension.
        OSError
            If a file is no FITS file, or missing.
        """
        redshifts = {} if redrock is None else _redshifts(redrock)
        with fits.open(coadd) as opened:
            table = _table(opened, "FIBERMAP", ("TARGETID", "TARGET_RA", "TARGET_DEC"), coadd)
            arms = [_arm(opened, arm, coadd) for arm in ARMS if f"{arm}_FLUX" in opened]
            if not arms:
                raise ValueError(f"{coadd} has no extension B_FLUX, R_FLUX or Z_FLUX, the arms of a DESI coadd")
            fibermap = {name: np.array(table[name]) for name in ("TARGETID", "TARGET_RA", "TARGET_DEC")}
        return cls(
            targets=tuple(map(plain_text, fibermap["TARGETID"])),
            _name=coadd.name,
            _fibermap=fibermap,
            _arms=arms,
            _redrock=redrock,
            _redshifts=redshifts,
        )

    def spectrum(self, target: str = "") -> Spectrum:
        """Return the spectrum of a target, which need not be named where there is but one.

        Raises ``ValueError`` where there is no such target, no redshift of it, or no valid pixel.
        """
        name = self._name
        if target not in self.targets and (target or len(self.targets) > 1):
            known = ", ".join(self.targets[:5])
            raise ValueError(f"{name} has no target {target or 'named'}; write {name}#TARGETID, such as {known}")
        row = self.targets.index(target) if target else 0
        target = self.targets[row]
        if self._redrock is not None and target not in self._redshifts:
            raise ValueError(f"{name}, {self._redrock.name} has no redshift of TARGETID {target}")
        described = self._redshifts.get(target, {"redshift": np.nan, "redshift_err": np.nan, "zwarning": 0})
        try:
            return grid_spectrum(
                **_combined(self._arms, row),
                object_id=target,
                ra_deg=float(self._fibermap["TARGET_RA"][row]),
                dec_deg=float(self._fibermap["TARGET_DEC"][row]),
                **{"spectral_class": "", **described},
            )
        except ValueError as error:
            raise ValueError(f"{name}, {error}") from None


def kernel_sigma(resolution: NDArray[Any]) -> Floats:
    """Return (pixel,) the Gaussian width, in pixels, of rows of a resolution matrix (diagonal, pixel).

    It is that of the Gaussian through the three middle samples, averaged over ``SMOOTHED_PIXELS``: the answer of the
    spectrograph to a line of no width, as sampled; NaN where the matrix holds nothing of the kind.
    """
    middle = len(resolution) // 2
    peak, beside = (
        uniform_filter1d(np.nan_to_num(np.asarray(values, dtype=np.float64)), SMOOTHED_PIXELS, mode="nearest")
        for values in (resolution[middle], (resolution[middle - 1] + resolution[middle + 1]) / 2)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        sigma = 1 / np.sqrt(2 * np.log(peak / beside))
    low, high = _SIGMA_RANGE
    return np.where((sigma > low) & (sigma < high), sigma, np.nan)


def _combined(arms: list[_Arm], row: int) -> dict[str, Any]:
    """Return flux, ivar and dispersion of a target on ``GRID_ANGSTROM``, weighted by ivar where arms overlap."""
    weight, flux, width = np.zeros((3, len(GRID_ANGSTROM)))
    for arm in arms:
        values, ivar = (np.asarray(column[row], dtype=np.float64) for column in (arm.flux, arm.ivar))
        sigma = kernel_sigma(arm.resolution[row])
        valid = (arm.mask[row] == 0) & (ivar > 0) & (ivar <= IVAR_LIMIT) & np.isfinite(values) & np.isfinite(sigma)
        ivar = np.where(valid, ivar, 0.0)
        weight[arm.place] += ivar
        flux[arm.place] += ivar * np.where(valid, values, 0.0)
        width[arm.place] += ivar * np.where(valid, sigma, 0.0) * STEP_ANGSTROM
    flux, width = (np.divide(sums, weight, out=np.zeros_like(sums), where=weight > 0) for sums in (flux, width))
    return {"flux": flux, "ivar": weight, "lsf_sigma_angstrom": width}


def _arm(opened: fits.HDUList, name: str, path: Path) -> _Arm:
    """Return an arm whose wavelengths lie on the grid of the survey."""
    wavelength = np.asarray(_extension(opened, f"{name}_WAVELENGTH", path).data, dtype=np.float64)
    first = round((wavelength[0] - GRID_ANGSTROM[0]) / STEP_ANGSTROM)
    place = slice(first, first + len(wavelength))
    on_grid = first >= 0 and place.stop <= len(GRID_ANGSTROM)
    if not (on_grid and np.allclose(wavelength, GRID_ANGSTROM[place], rtol=0, atol=GRID_TOLERANCE_ANGSTROM)):
        raise ValueError(f"{path}: {name}_WAVELENGTH is not on the grid of {STEP_ANGSTROM:g} A from 3600 A to 9824 A")
    unit = str(_extension(opened, f"{name}_FLUX", path).header.get("BUNIT", "")).strip()
    if unit not in _UNITS:
        raise ValueError(f"{path}: {name}_FLUX is in {unit}; allowed: {_UNITS[0]}")
    columns = {
        kind: _extension(opened, f"{name}_{kind.upper()}", path).data for kind in _Arm.__slots__ if kind != "place"
    }
    shape = (len(columns["flux"]), len(wavelength))
    for kind, values in columns.items():
        if (values.shape[0], values.shape[-1]) != shape:
            raise ValueError(f"{path}: {name}_{kind.upper()} has shape {values.shape}; expected {shape} as the flux")
    return _Arm(place=place, **columns)


def _redshifts(path: Path) -> dict[str, dict[str, Any]]:
    """Return redshift, error, warning and class by TARGETID."""
    with fits.open(path) as opened:
        table = _table(opened, "REDSHIFTS", ("TARGETID", "Z", "ZERR", "ZWARN"), path)
        classes = table["SPECTYPE"] if "SPECTYPE" in table.names else [""] * len(table)
        return {
            plain_text(target): {
                "redshift": float(redshift),
                "redshift_err": float(error),
                "zwarning": int(warning),
                "spectral_class": optional_text(kind),
            }
            for target, redshift, error, warning, kind in zip(
                table["TARGETID"], table["Z"], table["ZERR"], table["ZWARN"], classes, strict=True
            )
        }


def _table(opened: fits.HDUList, name: str, columns: tuple[str, ...], path: Path) -> Any:
    table = _extension(opened, name, path).data
    if missing := [column for column in columns if column not in map(str.upper, table.names)]:
        raise ValueError(f"{path}: {name} has no column {', '.join(missing)}")
    return table


def _extension(opened: fits.HDUList, name: str, path: Path) -> Any:
    if name not in opened:
        present = ", ".join(hdu.name for hdu in opened[1:]) or "none"
        raise ValueError(f"{path} has no extension {name}; its extensions: {present}")
    return opened[name]
