"""Packing ahead of the fit changes nothing but the time, and the size of a batch follows from the free memory."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmagn.spectroscopy import emission, stream
from mmagn.spectroscopy.batch import SpectrumBatch, spectrum_batch
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.spectroscopy.emission import line_table

CPU = torch.device("cpu")
CONFIG = SpectroscopyConfig(device="cpu", continuum="local")


def assert_same_batch(left: SpectrumBatch, right: SpectrumBatch) -> None:
    for name in SpectrumBatch.__dataclass_fields__:
        torch.testing.assert_close(getattr(left, name), getattr(right, name), rtol=0, atol=0, equal_nan=True)


def test_batches_packed_ahead_by_threads_are_those_of_one_thread(spectrum, monkeypatch):
    monkeypatch.setattr(stream, "CHUNK_SPECTRA", 3)
    spectra = [spectrum(redshift=0.02 * seed, pixels=3850 - 100 * seed, noise=0.5, seed=seed) for seed in range(14)]
    spectra[5] = replace(spectra[5], redshift=float("nan"))
    spectra[9] = spectrum(pixels=0)
    parts = [spectra[:8], spectra[8:13], spectra[13:]]
    batches = list(stream.packed_ahead(parts, CPU))
    assert [len(batch) for batch in batches] == [8, 5, 1]
    for part, batch in zip(parts, batches, strict=True):
        assert_same_batch(batch, spectrum_batch(part))


def test_one_part_is_packed_ahead_and_no_more(spectrum, monkeypatch):
    started = []
    monkeypatch.setattr(stream, "placement", lambda spectra: started.append(len(spectra)) or _placement(spectra))
    batches = stream.packed_ahead([[spectrum()] * size for size in (1, 2, 3, 4)], CPU)
    next(batches)
    assert sum(started) <= 3
    assert len(list(batches)) == 3


_placement = stream.placement


def test_an_error_while_packing_reaches_the_caller(spectrum):
    broken = replace(spectrum(), flux=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="broadcast"):
        list(stream.packed_ahead([[spectrum(), broken]], CPU))


@pytest.mark.parametrize("terms", [11, 18, 40])
def test_a_batch_takes_no_more_than_its_share_of_the_free_memory(terms):
    for gigabytes in (8, 24, 80, 140):
        size = stream.size_within(int(gigabytes * 1e9), terms)
        assert size & (size - 1) == 0
        assert size == stream.LARGEST_BATCH or 2 * size * stream.bytes_per_spectrum(terms) > 0.5e9 * gigabytes
        assert size * stream.bytes_per_spectrum(terms) <= 0.5e9 * gigabytes
    assert stream.size_within(0, terms) == stream.SMALLEST_BATCH


def test_a_fit_that_runs_out_of_memory_is_repeated_with_half_the_batch(spectrum, monkeypatch, caplog):
    sizes, measured = [], emission._measured

    def small_memory(spectra, model, config, size):
        sizes.append(size)
        if size > 1500:
            raise torch.OutOfMemoryError
        return measured(spectra, model, config, size)

    monkeypatch.setattr(emission, "_measured", small_memory)
    table = line_table([spectrum()], replace(CONFIG, batch_size=5000))
    assert sizes == [5000, 2500, 1250]
    assert table["flux_halpha"][0] == line_table([spectrum()], CONFIG)["flux_halpha"][0]
    assert "trying 1250" in caplog.text


def test_a_fit_that_no_batch_saves_ends_with_the_error(spectrum, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(emission, "_measured", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        line_table([spectrum()], replace(CONFIG, batch_size=5000))
