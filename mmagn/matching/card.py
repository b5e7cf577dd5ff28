"""The card of a dataset of pairs: what is in it, how it was made, and whom to credit."""

import json
from collections.abc import Mapping

import yaml

from mmagn.matching.provenance import read_provenance
from mmagn.matching.store import PairStore
from mmagn.storage.markdown import markdown_table

COLUMNS = {
    "sdss_object_id, hsc_object_id": "ids, text of digits",
    "sdss_ra_deg, sdss_dec_deg, hsc_ra_deg, hsc_dec_deg": "positions (ICRS), degrees",
    "separation_arcsec": "angle between the two positions, arcsec",
    "healpix": "HEALPix cell (NSIDE 16, NESTED) of the position of the spectrum",
    "redshift, redshift_err, zwarning": "of the pipeline of the survey; zwarning 0 is good",
    "survey, spectral_class, spectral_subclass": "of the spectrum; the classes are empty where the source has none",
    "image_flux, image_ivar": "5 x 160 x 160 flattened (bands g, r, i, z, y), nJy and 1/nJy^2; ivar 0 is not valid",
    "psf_fwhm_arcsec, magnitude": "per band, arcsec and AB (cmodel); NaN is unmeasured",
    "spectrum_wavelength_angstrom": "vacuum, observed frame",
    "spectrum_flux, spectrum_ivar": "1e-17 erg/s/cm2/A and its inverse variance; ivar 0 is not valid",
    "spectrum_lsf_sigma": "instrumental dispersion in pixels of 1e-4 dex",
}
CREDITS = """\
- **SDSS**: spectra of the Sloan Digital Sky Survey. Funding for SDSS has been provided by the Alfred P. Sloan
  Foundation, the Heising-Simons Foundation, the National Science Foundation and the participating institutions;
  www.sdss.org.
- **HSC**: images of the Hyper Suprime-Cam Subaru Strategic Program, PDR3 (Aihara et al. 2022, PASJ 74, 247). The
  Hyper Suprime-Cam collaboration includes the astronomical communities of Japan and Taiwan, and Princeton University;
  instrument and software were developed by the National Astronomical Observatory of Japan (NAOJ), Kavli IPMU, the
  University of Tokyo, KEK, ASIAA and Princeton University. Based on data collected at the Subaru Telescope and
  retrieved from the HSC data archive system, operated by the Subaru Telescope and the Astronomy Data Center at NAOJ.
- **DESI**, where spectra are of this survey: Early Data Release (DESI Collaboration 2024, AJ 168, 58) or Data Release 1
  (DESI Collaboration 2025, arXiv:2503.14745).
- **Multimodal Universe**: both samples as published by the Multimodal Universe collaboration (2024, NeurIPS).

The terms of the surveys hold for what is theirs.
"""
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def card_text(store: PairStore, repository: str, versions: Mapping[str, str]) -> str:
    """Return the card of a store as Markdown with the YAML head that a hub reads.

    ``repository`` is ORG/NAME; ``versions`` are those of the packages that the pairs were pushed with.
    """
    report, provenance = store.report, read_provenance(store.path)
    surveys = sorted({str(name) for name in store.index["survey"]})
    names = ", ".join(name.upper() for name in surveys)
    head = {
        "pretty_name": f"Pairs of {'simulated' if store.simulated else names} spectra and HSC images",
        "license": "other",
        "tags": ["astronomy", "spectra", "images", *surveys, "hsc"],
        "size_categories": [next((size for most, size in _SIZES if len(store) < most), "n>100K")],
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }
    lost = {**report["drops"], **report["pair_drops"]}
    settings = {name: json.dumps(value) for name, value in sorted(store.settings.items())}
    sources = [f"- {source.name}: version {source.version}, {source.size_bytes} bytes" for source in provenance.sources]
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
            f"# {repository}\n",
            f"{len(store)} galaxies, each with its spectrum ({names}) and its HSC image, matched one to one within "
            f"{report['radius_arcsec']:g} arcsec among {report['left_objects']} spectra and {report['right_objects']} "
            f"images; {report['expected_by_chance']:.2g} of the matches are expected by chance.\n",
            *(["**The survey is simulated: these pairs say nothing about the sky.**\n"] if store.simulated else []),
            "## Columns\n",
            markdown_table(("column", "meaning"), COLUMNS),
            "## How it was made\n",
            markdown_table(("setting", "value"), settings),
            f"Fingerprint of settings and sources: `{store.fingerprint}`.\n",
            "Sources:\n",
            *(sources or ["- described whole by the settings"]),
            "",
            markdown_table(("left out", "objects"), {reason: str(count) for reason, count in sorted(lost.items())}),
            markdown_table(("package", "version"), versions),
            *([] if store.simulated else ["## Credits\n", CREDITS]),
        ]
    )
