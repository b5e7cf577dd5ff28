import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.table import Table, vstack
from pair_records import cutout_of, spectrum_of

from mmagn.features.vector import FEATURE_NAMES, FEATURE_UNITS
from mmagn.labels.config import LabelsConfig
from mmagn.lines import LINES, REPORTED_LINES
from mmagn.measurement import stream
from mmagn.measurement.stream import measured_tables, write_tables
from mmagn.measurement.table import LINE_COLUMNS, MeasurementSettings, imaging_row, measured_table
from mmagn.records import Pair
from mmagn.spectroscopy.config import SpectroscopyConfig

SETTINGS = MeasurementSettings(
    spectroscopy=SpectroscopyConfig(continuum="local", device="cpu"), labels=LabelsConfig(draws=50)
)
FLUXES = {
    "hbeta": 100.0,
    "oiii_5007": 50.0,
    "halpha": 300.0,
    "nii_6584": 75.0,
    "sii_6718": 40.0,
    "sii_6733": 30.0,
    "oi_6302": 6.0,
}
SIGMA_KMS = 150.0


def spectrum(number, oiii_5007=50.0, snr_per_pixel=40.0):
    """A galaxy with a flat continuum of 20 and Gaussian lines, without noise, so that every run sees the same."""
    wavelength = 10 ** (3.58 + 1e-4 * np.arange(3800))
    redshift = 0.05
    fluxes = {**FLUXES, "oiii_5007": oiii_5007}
    flux = np.full(wavelength.shape, 20.0)
    for line in LINES:
        total = fluxes[line.name] if line.name in fluxes else fluxes[line.tied_to] * line.tied_ratio
        centre = line.wavelength_angstrom * (1 + redshift)
        sigma = centre * SIGMA_KMS / 299792.458
        flux += total * np.exp(-0.5 * ((wavelength - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return spectrum_of(
        flux,
        (snr_per_pixel / 20) ** 2,
        first_native=35800,
        object_id=str(10**17 + number),
        ra_deg=150.0 + number / 100,
        dec_deg=2.0,
        redshift=redshift,
        lsf_sigma=np.full(wavelength.shape, 0.5, dtype=np.float32),
    )


def cutout(number):
    y, x = np.mgrid[:160, :160] - 79.5
    image = 100 * np.exp(-0.5 * (x**2 + y**2) / (3.0 + number % 5) ** 2)
    return cutout_of(image, object_id=str(4 * 10**16 + number), ra_deg=150.0, dec_deg=2.0)


def spectra_of(count):
    return [spectrum(number, oiii_5007=50.0 + 400 * (number % 2)) for number in range(count)]


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(stream, "BATCH_SPECTRA", 4)


def assert_same_rows(left, right):
    assert left.colnames == right.colnames
    for name in left.colnames:
        if left[name].dtype.kind == "f":
            np.testing.assert_allclose(left[name], right[name], rtol=1e-6, atol=1e-9, err_msg=name)
        else:
            assert np.asarray(left[name]).tolist() == np.asarray(right[name]).tolist(), name


def test_the_table_starts_with_identity_lines_and_features_each_once():
    table = measured_table(spectra_of(2), SETTINGS)
    assert table.colnames[:4] == ["object_id", "ra_deg", "dec_deg", "redshift"]
    assert len(set(table.colnames)) == len(table.colnames)
    after = 4
    for line in REPORTED_LINES:
        assert table.colnames[after : after + 3] == [f"flux_{line}", f"flux_{line}_err", f"ew_{line}"]
        after += len(LINE_COLUMNS)
    assert table.colnames[after : after + 4] == ["continuum_level", "log_oiii_hbeta", "concentration", "contrast"]
    assert set(FEATURE_NAMES) | {"bpt_class", "reason"} <= set(table.colnames)


def test_injected_lines_come_out_as_features_classes_and_probabilities():
    table = measured_table(spectra_of(2), SETTINGS)
    np.testing.assert_allclose(table["flux_halpha"], 300.0, rtol=0.02)
    np.testing.assert_allclose(table["ew_halpha"], 300.0 / 20 / 1.05, rtol=0.05)
    assert table["bpt_class"].tolist() == ["star-forming", "seyfert"]
    assert table["p_agn"][0] < 0.1 < 0.9 < table["p_agn"][1]
    np.testing.assert_allclose(table["snr_hbeta"], table["flux_hbeta"] / table["flux_hbeta_err"])
    for name in FEATURE_NAMES:
        np.testing.assert_array_equal(table[f"valid_{name}"], np.isfinite(table[name]))
    assert table["valid_log_oiii_hbeta"].all()
    assert not table["valid_contrast"].any()


def test_every_feature_and_line_has_its_unit():
    table = measured_table(spectra_of(1), SETTINGS, [imaging_row(cutout(0))])
    for name in FEATURE_NAMES:
        assert table[name].unit == FEATURE_UNITS[name], name
    for line in REPORTED_LINES:
        assert table[f"flux_{line}_err"].unit == FEATURE_UNITS["flux_hbeta"]
        assert table[f"ew_{line}"].unit == u.AA
    assert table["ra_deg"].unit == u.deg


def test_pairs_have_image_features_and_both_ids():
    spectra, cutouts = spectra_of(3), [cutout(number) for number in range(3)]
    table = measured_table(spectra, SETTINGS, list(map(imaging_row, cutouts)))
    assert table["valid_concentration"].all()
    assert np.all(np.diff(table["concentration"]) < 0)
    assert table["hsc_object_id"].tolist() == [cutout.object_id for cutout in cutouts]
    assert table["object_id"].tolist() == [spectrum.object_id for spectrum in spectra]
    with pytest.raises(ValueError, match="2 cutouts for 3 spectra"):
        measured_table(spectra, SETTINGS, list(map(imaging_row, cutouts[:2])))


def test_the_settings_are_written_into_the_table():
    meta = measured_table(spectra_of(1), SETTINGS).meta
    assert LabelsConfig(**json.loads(meta["LABELS"])) == SETTINGS.labels
    assert SpectroscopyConfig(**json.loads(meta["LINES"])) == SETTINGS.spectroscopy


def test_a_stream_of_pairs_measures_what_the_pairs_hold(small_batches):
    spectra, cutouts = spectra_of(9), [cutout(number) for number in range(9)]
    pairs = (
        Pair(cutout=cutout, spectrum=spectrum, separation_arcsec=0.1, healpix=1)
        for cutout, spectrum in zip(cutouts, spectra, strict=True)
    )
    streamed = vstack(list(measured_tables(pairs, SETTINGS)))
    assert_same_rows(streamed, measured_table(spectra, SETTINGS, list(map(imaging_row, cutouts))))


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".ecsv", ".votable"])
def test_astropy_reads_back_values_units_and_scheme(tmp_path, suffix, small_batches):
    out = tmp_path / "new" / f"table{suffix}"
    spectra = spectra_of(9)
    summary = write_tables(
        measured_tables(iter(spectra), SETTINGS), out, progress=False, drops=Counter({"z is NaN": 2})
    )
    assert summary.rows == 9
    assert summary.classes["star-forming"] == 5
    assert summary.classes["seyfert"] == 4
    assert sum(summary.classes.values()) == 9
    assert summary.drops == {"z is NaN": 2}
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    read = Table.read(out, format="votable" if suffix == ".votable" else None)
    expected = measured_table(spectra, SETTINGS)
    if suffix != ".votable":  # which knows no settings
        assert json.loads(read.meta["LABELS"])["seyfert_liner"] == "schawinski2007"
    for name in expected.colnames:
        if expected[name].dtype.kind == "f":
            values = np.ma.filled(np.ma.asarray(read[name]).astype(float), np.nan)
            np.testing.assert_allclose(values, expected[name], rtol=1e-6, atol=1e-9, err_msg=name)
            if not (suffix in (".fits", ".votable") and expected[name].unit in (u.dex, u.dimensionless_unscaled)):
                assert read[name].unit == expected[name].unit, name
        elif expected[name].dtype.kind == "U":
            assert np.ma.filled(np.ma.asarray(read[name]).astype(str), "").tolist() == expected[name].tolist(), name
        else:
            assert read[name].tolist() == expected[name].tolist(), name


def test_pandas_and_arrow_read_the_parquet_with_units(tmp_path, small_batches):
    out = tmp_path / "table.parquet"
    write_tables(measured_tables(iter(spectra_of(6)), SETTINGS), out, progress=False)
    frame = pandas.read_parquet(out)
    assert len(frame) == 6
    assert frame["object_id"].tolist() == [str(10**17 + number) for number in range(6)]
    assert frame["flux_halpha"].dtype == np.float64
    assert pq.read_schema(out).field("flux_halpha").metadata[b"unit"] == b"1e-17 erg / (s cm2)"


def test_the_table_does_not_depend_on_the_number_of_workers(tmp_path, small_batches):
    spectra = spectra_of(14)
    for workers in (1, 2):
        tables = measured_tables(iter(spectra), SETTINGS, workers)
        write_tables(tables, tmp_path / f"{workers}.parquet", progress=False)
    assert_same_rows(Table.read(tmp_path / "1.parquet"), Table.read(tmp_path / "2.parquet"))


def test_the_basis_is_learned_from_the_head_of_the_stream_and_no_spectrum_is_lost(monkeypatch, small_batches):
    learned_from = []

    def learned(spectra, config):
        learned_from.extend(spectrum.object_id for spectrum in spectra)

    monkeypatch.setattr(stream, "continuum_basis", learned)
    spectra = spectra_of(11)
    spectroscopy = SpectroscopyConfig(continuum="basis", device="cpu", basis_minimum=1, basis_maximum=8)
    batches = measured_tables(iter(spectra), replace(SETTINGS, spectroscopy=spectroscopy))
    measured = [object_id for table in batches for object_id in table["object_id"]]
    assert learned_from == [spectrum.object_id for spectrum in spectra[:8]]
    assert measured == [spectrum.object_id for spectrum in spectra]


def test_a_stream_is_read_only_a_few_batches_ahead(tmp_path, small_batches):
    drawn = []

    def source():
        for spectrum in spectra_of(12):
            drawn.append(spectrum.object_id)
            yield spectrum

    batches = measured_tables(source(), SETTINGS)
    assert len(next(batches)) == 4
    assert len(drawn) == 4


def test_an_unknown_suffix_is_refused_before_any_work(tmp_path):
    def source():
        raise AssertionError("the source must not be read")
        yield

    with pytest.raises(ValueError, match=r"table\.txt is no name of a table; allowed suffixes: "):
        write_tables(measured_tables(source(), SETTINGS), tmp_path / "table.txt", progress=False)


def test_no_spectrum_and_no_worker_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no spectrum to measure"):
        write_tables(measured_tables(iter([]), SETTINGS), tmp_path / "table.parquet", progress=False)
    with pytest.raises(ValueError, match="--workers is 0; allowed: 1 or more"):
        write_tables(measured_tables(iter(spectra_of(1)), SETTINGS, 0), tmp_path / "table.parquet", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_on_the_way_leaves_the_old_table_and_nothing_else(tmp_path, small_batches):
    out = tmp_path / "table.parquet"
    out.write_bytes(b"the old table")

    def source():
        yield from spectra_of(9)
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="disk went away"):
        write_tables(measured_tables(source(), SETTINGS), out, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]
    assert out.read_bytes() == b"the old table"
