"""The real tree, where it is at hand."""

from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5.reader import Hdf5Reader
from mmagn.surveys.reader import iter_spectra, usable


def tree(root: Path) -> Hdf5Reader:
    return Hdf5Reader(data=DataConfig(source="hdf5", root=str(root)))


def test_real_spectra_are_read_whole(real_tree):
    drops: Counter[str] = Counter()
    spectra = list(iter_spectra(tree(real_tree), drops))
    assert len(spectra) == 29
    assert not drops
    for spectrum in spectra:
        assert spectrum.object_id.isdigit()
        assert 3500 < spectrum.wavelength_angstrom[0] < 4000 < 9000 < spectrum.wavelength_angstrom[-1] < 10500
        np.testing.assert_allclose(np.diff(np.log10(spectrum.wavelength_angstrom.astype(float))), 1e-4, atol=2e-6)
        assert spectrum.valid.mean() > 0.5
        assert 0.5 < np.median(spectrum.lsf_sigma[spectrum.valid]) < 2
        assert spectrum.spectral_class in ("GALAXY", "QSO")


def test_real_spectra_are_padded_in_the_file_and_not_in_the_record(real_tree):
    reader = tree(real_tree)
    catalog = reader.read_sdss_catalog(Counter())
    shorter = 0
    for index, path in enumerate(catalog.files):
        with h5py.File(path) as file:
            longest = file["spectrum_flux"].shape[1]
        rows = catalog.row[catalog.file_index == index]
        shorter += sum(
            len(spectrum.flux) < longest for _, spectrum in usable(reader.read_spectra(path, rows), Counter())
        )
    assert shorter > 0


def test_images_of_the_real_tree_are_read(real_tree):
    drops: Counter[str] = Counter()
    reader = tree(real_tree)
    catalog = reader.read_hsc_catalog(drops)
    lost_magnitudes = 0
    for index, path in enumerate(catalog.files):
        for _, cutout in usable(reader.read_cutouts(path, catalog.row[catalog.file_index == index]), drops):
            assert np.isfinite(cutout.flux).all()
            assert np.isfinite(cutout.ivar).all()
            lost_magnitudes += int(np.isnan(cutout.magnitude).any())
    assert len(catalog) == 69
    assert lost_magnitudes >= 1
    assert not drops
