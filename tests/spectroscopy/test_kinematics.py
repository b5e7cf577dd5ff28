"""A fit stops where nothing is left to gain, for itself alone."""

import numpy as np
import pytest
import torch

from mmagn.spectroscopy import emission, kinematics
from mmagn.spectroscopy.basis import local_basis
from mmagn.spectroscopy.batch import spectrum_batch
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table
from mmagn.spectroscopy.measures import coverage
from mmagn.spectroscopy.system import continuum_system, grids
from mmagn.spectroscopy.varpro import flux_covariance, problem
from mmagn.surveys.simulate.spectra import simulated_spectra


@pytest.fixture(scope="module")
def spectra():
    return simulated_spectra(120, np.random.default_rng(21), classes=["star-forming", "seyfert", "passive"])[0]


@pytest.fixture(scope="module")
def task_and_start(spectra):
    batch = spectrum_batch(spectra)
    system = continuum_system(batch, grids(local_basis(), torch.device("cpu")))
    task = problem(system, batch.phase, batch.lsf_sigma, coverage(batch).constrained)
    return task, kinematics.start_kinematics(system, task)


def test_a_short_step_left_out_moves_no_flux_by_more_than_a_hundredth_of_its_error(task_and_start, monkeypatch):
    task, start = task_and_start
    stopped = kinematics.fitted(task, start)
    monkeypatch.setattr(kinematics, "SHORT_STEP", -1.0)
    full = kinematics.fitted(task, start)
    error = flux_covariance(full)[0].diagonal(dim1=1, dim2=2).sqrt()
    assert float(((stopped.flux - full.flux).abs() / error).max()) < 0.01


def test_most_fits_stop_before_the_last_step(task_and_start, monkeypatch):
    task, start = task_and_start
    evaluations = []
    evaluated = kinematics.evaluated
    monkeypatch.setattr(
        kinematics, "evaluated", lambda part, at: evaluations.append(len(part.phase)) or evaluated(part, at)
    )
    kinematics.fitted(task, start)
    assert sum(evaluations) < 0.85 * (1 + kinematics.STEPS) * len(task.phase)


def test_suspects_of_many_batches_are_tried_together_and_keep_their_rows(spectra, monkeypatch):
    broad, _ = simulated_spectra(24, np.random.default_rng(22), classes=["broad-line"])
    mixed = [one for pair in zip(spectra[:24], broad, strict=True) for one in pair]
    config = SpectroscopyConfig(device="cpu")
    tried, broad_measures = [], emission.broad_measures
    monkeypatch.setattr(
        emission, "broad_measures", lambda found, tables: tried.append(len(found)) or broad_measures(found, tables)
    )
    whole = line_table(mixed, config)
    in_parts = line_table(mixed, SpectroscopyConfig(device="cpu", batch_size=7))
    assert len(tried) < 1 + 48 // 7
    assert whole["broad_line"].tolist() == in_parts["broad_line"].tolist()
    assert np.mean(whole["broad_line"][1::2]) > 0.8
    assert not whole["broad_line"][::2].any()
    np.testing.assert_allclose(whole["flux_halpha"], in_parts["flux_halpha"], rtol=1e-6)
