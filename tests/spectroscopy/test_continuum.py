import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mmagn.spectroscopy.basis import ContinuumBasis, local_basis
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.continuum import learned_basis
from mmagn.spectroscopy.emission import line_table
from mmagn.surveys.simulate.spectra import simulated_spectra

CONFIG = SpectroscopyConfig(device="cpu")


@pytest.fixture(scope="module")
def basis():
    spectra, _ = simulated_spectra(500, np.random.default_rng(1))
    return learned_basis(spectra, CONFIG)


def test_too_few_galaxies_teach_nothing(spectrum):
    assert learned_basis([spectrum()] * 20, CONFIG) is None
    quasars = [spectrum(spectral_class="QSO")] * 200
    assert learned_basis(quasars, CONFIG) is None


def test_a_saved_basis_comes_back_the_same(tmp_path, basis):
    basis.save(tmp_path / "basis.safetensors")
    assert ContinuumBasis.load(tmp_path / "basis.safetensors") == basis
    assert basis != local_basis()


def test_a_basis_on_another_grid_is_refused(tmp_path, basis):
    basis.save(tmp_path / "basis.safetensors")
    arrays = load_file(tmp_path / "basis.safetensors")
    save_file({**arrays, "grid": np.array([1, 2])}, tmp_path / "other.safetensors", metadata={"kind": basis.kind})
    with pytest.raises(ValueError, match="another rest grid"):
        ContinuumBasis.load(tmp_path / "other.safetensors")
    os.truncate(tmp_path / "basis.safetensors", 1000)
    with pytest.raises(ValueError, match="does not hold a continuum basis"):
        ContinuumBasis.load(tmp_path / "basis.safetensors")


@pytest.fixture(scope="module")
def measured(basis):
    spectra, truth = simulated_spectra(600, np.random.default_rng(2))
    return line_table(spectra, CONFIG, basis), truth


def test_the_learned_basis_carries_balmer_absorption(measured):
    table, truth = measured
    narrow = np.asarray(truth["bpt_class"]) != "broad-line"
    assert set(table["continuum_kind"]) == {"basis"}
    scale = np.asarray(table["continuum_hbeta"]) * (1 + np.asarray(truth["redshift"]))
    error = (np.asarray(table["flux_hbeta"]) - np.asarray(truth["flux_hbeta"])) / scale
    error = error[np.isfinite(error) & narrow]
    assert np.median(np.abs(error)) < 0.3
    assert abs(np.median(error)) < 0.15


@pytest.mark.parametrize("line", ["hbeta", "oiii_5007", "halpha", "nii_6584", "sii_6718", "sii_6733"])
def test_with_a_learned_basis_fluxes_are_unbiased_and_errors_are_the_scatter(measured, line):
    table, truth = measured
    narrow = np.asarray(truth["bpt_class"]) != "broad-line"
    true, flux, error = (
        np.asarray(part) for part in (truth[f"flux_{line}"], table[f"flux_{line}"], table[f"flux_{line}_err"])
    )
    strong = narrow & np.isfinite(flux) & (true > 5 * error)
    assert abs(np.median(flux[strong] / true[strong]) - 1) < 0.04
    assert 0.85 < np.std((flux - true)[strong] / error[strong]) < 1.2


def test_the_local_continuum_is_taken_where_the_settings_ask_for_it(spectrum, basis):
    table = line_table([spectrum()], replace(CONFIG, continuum="local"), basis)
    assert list(table["continuum_kind"]) == ["local"]


def test_broad_lines_of_simulated_nuclei_are_found():
    spectra, _ = simulated_spectra(60, np.random.default_rng(3), classes=["broad-line"])
    assert line_table(spectra, CONFIG)["broad_line"].mean() > 0.85
