"""Each preset fits its table in the form in which it is published: names, types, padding, sentinels and formats."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Column, MaskedColumn, Table, hstack

from mmagn.labels.catalog import LabelCatalog
from mmagn.labels.config import CatalogConfig
from mmagn.labels.joins import Objects
from mmagn.labels.presets import desi_bits, presets
from mmagn.labels.rules import parsed_rule
from mmagn.storage.table_reading import read_table

IDS = ["299489677444933632", "1309501900785215488", "444874804017784832"]
"""Of SDSS spectra 266-51630-1, 1163-52669-292, 395-51783-525."""
P, N, U = "positive", "negative", "unknown"


def labels(preset: str, file: Path, object_id: list[str] | None = None, count: int = 0) -> list[str]:
    """Labels of objects with ids, or of ``count`` objects 0.1 degrees apart on the equator."""
    count = len(object_id) if object_id else count
    objects = Objects(
        object_id=np.array(object_id or [""] * count),
        hsc_object_id=np.full(count, ""),
        ra_deg=10 + 0.1 * np.arange(count),
        dec_deg=np.zeros(count),
        columns={},
    )
    return LabelCatalog.read(CatalogConfig(table=str(file), preset=preset), file).labels(objects).label.tolist()


def placed(names: tuple[str, str], **columns: object) -> Table:
    """A table whose rows lie at the objects without ids, a fraction of an arcsecond away."""
    count = len(next(iter(columns.values())))
    ra = Column(10 + 0.1 * np.arange(count) + 0.2 / 3600, unit=u.deg)
    return Table({names[0]: ra, names[1]: Column(np.zeros(count), unit=u.deg), **columns})


def test_ids_of_mpa_jhu_are_padded_text_in_fits_and_numbers_of_the_database(tmp_path: Path) -> None:
    padded = np.array([*IDS, ""]).astype("S22")
    table = Table({"PLATEID": np.array([266, 1163, 395, -1], np.int16), "SPECOBJID": np.char.rjust(padded, 22)})
    table["BPTCLASS"] = np.array([4, 5, -1, 0], np.int16)
    table.write(tmp_path / "galSpecExtra-dr8.fits")
    assert labels("mpa-jhu", tmp_path / "galSpecExtra-dr8.fits", IDS) == [P, N, U]
    for number, expected in enumerate([U, N, N, P, P, N, U]):
        of_skyserver = f"#Table1\nspecObjID,bptclass\n{IDS[0]},{number}\n"
        (tmp_path / "one.csv").write_text(of_skyserver, encoding="ascii")
        assert labels("mpa-jhu", tmp_path / "one.csv", IDS[:1]) == [expected], number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("Seyfert", P), ("Composite", P), ("Composi", P), ("Star Forming", N), ("Star Fo", N), ("LINER", N)),
        *(("Seyfert/LINER", U), ("BLANK", U)),
    ],
)
def test_classes_of_portsmouth_are_text_cut_off_or_padded(tmp_path: Path, text: str, expected: str) -> None:
    table = Table({"PLATE": np.array([1163], np.int32), "MJD": np.array([52669], np.int32)})
    table["FIBERID"], table["BPT"] = np.array([292], np.int32), np.array([text.ljust(14)]).astype("S14")
    table.write(tmp_path / "portsmouth_emlinekin_full.fits")
    assert labels("portsmouth", tmp_path / "portsmouth_emlinekin_full.fits", IDS) == [U, expected, U]
    of_database = Table({"specObjID": [int(IDS[1])], "plate": [1163], "fiberID": [292], "mjd": [52669], "bpt": [text]})
    of_database.write(tmp_path / "emissionLinesPort.csv", format="ascii.csv")
    assert labels("portsmouth", tmp_path / "emissionLinesPort.csv", IDS) == [U, expected, U]


WISE = {
    "stern2012": [P, N, U, U, N, U],
    "assef2018-r90": [P, P, U, U, N, U],
    "assef2018-c75": [P, N, P, N, N, U],
}


ALLWISE = ("w1mpro", "w2mpro", "w2snr", "w2sigmpro", "cc_flags")
VIZIER = ("W1mag", "W2mag", "none", "e_W2mag", "ccf")


def photometry(names: tuple[str, ...], rows: list[tuple[float, float, float, str]]) -> Table:
    """A table of AllWISE with W1, W2, the signal-to-noise of W2 and the flags of artefacts of each row."""
    w1, w2, snr, flags = (np.array(column) for column in zip(*rows, strict=True))
    error = (2.5 / np.log(10) / snr).round(3)
    columns = dict(zip(names, (w1, w2, snr, error, flags), strict=True))
    columns.pop("none", None)
    return placed(("ra", "dec"), **columns)


@pytest.mark.parametrize("names", [ALLWISE, VIZIER])
@pytest.mark.parametrize("form", ["csv", "fits", "vot"])
@pytest.mark.parametrize("preset", list(WISE))
def test_photometry_that_fails_a_quality_cut_makes_no_label(
    tmp_path: Path, preset: str, form: str, names: tuple[str, ...]
) -> None:
    red, blue = (14.0, 13.0), (13.2, 13.0)
    rows = [(*red, 20.0, "0000"), (*blue, 20.0, "00Dh"), (*red, 20.0, "0d00"), (*blue, 20.0, "P000")]
    rows += [(*red, 5.0, "0000"), (*blue, 4.9, "0000"), (7.9, 6.9, 90.0, "0000"), (7.9, 7.2, 90.0, "0000")]
    file = tmp_path / f"allwise.{form}"
    photometry(names, rows).write(file, format={"csv": "ascii.csv", "fits": "fits", "vot": "votable"}[form])
    assert labels(preset, file, count=8) == [P, N, U, U, P, U, U, U]


def test_the_reasons_name_the_quality_cuts_and_a_table_without_their_columns_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [(14.0, 13.0, 20.0, "d000"), (21.5, 17.2, 9.0, "0000"), (14.0, 13.0, 4.0, "0000")]
    table = photometry(ALLWISE, rows)
    table.write(tmp_path / "all.fits")
    table["ra", "dec", "w1mpro", "w2mpro"].write(tmp_path / "few.fits")
    settings = {"table": str(tmp_path / "all.fits"), "preset": "assef2018-r90"}
    reasons = LabelCatalog.read(CatalogConfig(**settings), tmp_path / "all.fits").reason.tolist()
    cuts = ["no artefact in W1 and W2", "W2 < 17.11", "signal-to-noise of W2 at least 5"]
    assert reasons == [f"quality cut: {cut}" for cut in cuts]
    assert not caplog.text
    assert labels("assef2018-r90", tmp_path / "few.fits", count=3) == [P, U, P]
    absent = "signal-to-noise of W2 at least 5; no artefact in W1 and W2"
    assert f"few.fits has no column for the quality cuts of assef2018-r90: {absent}" in caplog.text
    for quality, expected in (("none", [P, P, P]), ("w2snr > 8", [P, P, U])):
        config = CatalogConfig(**settings, quality=quality)
        assert LabelCatalog.read(config, tmp_path / "all.fits").label.tolist() == expected


def test_flags_whose_zeros_were_lost_are_refused_with_the_way_out(tmp_path: Path) -> None:
    places = placed(("RA", "DEC"), W1MPRO=[14.0], W2MPRO=[13.0], CC_FLAGS=["0000"])
    places.write(tmp_path / "upper.csv", format="ascii.csv")
    assert labels("stern2012", tmp_path / "upper.csv", count=1) == [P]
    places["CC_FLAGS"] = [0]
    places.write(tmp_path / "numbers.fits")
    with pytest.raises(ValueError, match=r"a cut of the preset stern2012; quality none makes no cut"):
        labels("stern2012", tmp_path / "numbers.fits", count=1)


def test_ab_magnitudes_are_not_taken_for_vega(tmp_path: Path) -> None:
    table = placed(("ra", "dec"), w1mpro=Column([16.0], unit=u.ABmag), w2mpro=Column([16.0], unit=u.ABmag))
    table.write(tmp_path / "legacy.ecsv")
    with pytest.raises(ValueError, match=r"column w1mpro has the unit mag\(AB\); allowed: Vega magnitudes"):
        labels("stern2012", tmp_path / "legacy.ecsv", count=1)


@pytest.mark.parametrize("preset", list(WISE))
@pytest.mark.parametrize("form", ["allwise.vot", "allwise.fits", "allwise.csv", "allwise.parquet"])
def test_wise_magnitudes_are_those_of_vizier_and_irsa_with_missing_ones(tmp_path: Path, preset: str, form: str) -> None:
    w2 = np.array([13.0, 13.0, 16.0, 16.0, 12.0, 13.0], np.float32)
    w1 = MaskedColumn(w2 + np.array([0.8, 0.66, 1.2, 0.7, 0.1, 2], np.float32), mask=[False] * 5 + [True])
    of_irsa = form.endswith(("csv", "parquet"))
    names = (("ra", "dec"), "w1mpro", "w2mpro") if of_irsa else (("RAJ2000", "DEJ2000"), "W1mag", "W2mag")
    table = placed(names[0], **{names[1]: w1, names[2]: w2})
    formats = {"vot": "votable", "fits": "fits", "csv": "ascii.csv", "parquet": "parquet"}
    table.write(tmp_path / form, format=formats[form.rpartition(".")[2]])
    assert labels(preset, tmp_path / form, count=6) == WISE[preset]


def test_the_limits_of_assef_are_those_of_the_publication(tmp_path: Path) -> None:
    limit = 0.650 * np.exp(0.153 * (15.5 - 13.86) ** 2)
    colour = np.array([0.649, 0.651, limit - 0.001, limit + 0.001])
    w2 = np.array([13.86, 13.86, 15.5, 15.5])
    placed(("RAJ2000", "DEJ2000"), W1mag=w2 + colour, W2mag=w2).write(tmp_path / "r90cat.fits")
    assert labels("assef2018-r90", tmp_path / "r90cat.fits", count=4) == [N, P, U, P]


def test_luminosities_of_chandra_cosmos_are_logarithms_with_a_sentinel(tmp_path: Path) -> None:
    luminosity = np.array([42.0, 41.99, -99.0])
    placed(("RA_x", "DEC_x"), Lx_210=luminosity).write(tmp_path / "chandra.fits")
    assert labels("x-ray-luminosity", tmp_path / "chandra.fits", count=3) == [P, U, U]
    placed(("ra", "dec"), log_lx=luminosity).write(tmp_path / "own.ecsv")
    assert labels("x-ray-luminosity", tmp_path / "own.ecsv", count=3) == [P, U, U]
    placed(("ra", "dec"), log_lx=10.0**luminosity).write(tmp_path / "linear.ecsv")
    assert labels("x-ray-luminosity", tmp_path / "linear.ecsv", count=3) == [U, U, U]


@pytest.mark.parametrize(
    ("places", "sfr"),
    [(("RA_VLA3", "DEC_VLA3"), "SFR_IR"), (("RA_VLA_J2000", "DEC_VLA_J2000"), "SFR_KENN98"), (("ra", "dec"), "sfr")],
)
def test_radio_excess_is_that_of_vla_cosmos_whose_star_formation_is_no_logarithm(
    tmp_path: Path, places: tuple[str, str], sfr: str
) -> None:
    redshift = np.array([0.1, 0.1, 0.1, -99.0, 0.1])
    excess = 21.984 * 1.1**0.013 + np.array([0.01, -0.01, 0, 5, 5])
    rate = np.array([10.0, 10.0, -99.0, 10.0, 0.0])
    table = placed(places, Lradio_21cm=excess + 1, **{sfr: rate}, Z_BEST=redshift)
    table.write(tmp_path / "vla.fits")
    assert labels("radio-excess", tmp_path / "vla.fits", count=5) == [P, N, U, U, U]


def test_the_limit_of_radio_excess_is_3_sigma_above_the_infrared_radio_correlation() -> None:
    """q = 2.88 (1 + z)^-0.19 of Delhaize+2017 with a scatter of 0.26 dex; 1e10 Lsun in the infrared are 1 Msun/yr."""
    redshift = np.array([0.1, 0.5, 1.0, 2.0])
    star_formation = np.log10(1e10 * 3.828e26 / 3.75e12) - 2.88 * (1 + redshift) ** -0.19
    rule = parsed_rule(presets()["radio-excess"].positive)
    for offset, expected in ((2 * 0.26, False), (4 * 0.26, True)):
        columns = {"log_l14": star_formation + offset, "sfr": np.ones(4), "z": redshift}
        assert rule.truth(columns).true.tolist() == [expected] * 4


def test_radio_excess_is_a_flag_of_the_counterparts_of_vla_cosmos_too(tmp_path: Path) -> None:
    places = placed(("RA_CPT_J2000", "DEC_CPT_J2000"), Radio_excess=np.array(["true", "false", ""]).astype("S5"))
    far = Table({"RA_VLA_J2000": places["RA_CPT_J2000"] + 2 / 3600, "DEC_VLA_J2000": np.zeros(3)})
    hstack([places, far]).write(tmp_path / "counterparts.fits")
    assert labels("vla-cosmos", tmp_path / "counterparts.fits", count=3) == [P, N, U]


def test_bits_of_desi_are_read_from_the_first_of_two_tables_row_by_row(tmp_path: Path) -> None:
    def bits(mask: str, *names: str) -> int:
        return sum(1 << desi_bits()[mask][name] for name in names)

    rows = [
        (1, ["AGN_ANY", "BPT_ANY_SY", "BPT_ANY_AGN"], ["NII_BPT", "NII_SY"], ["WISE_W12", "WISE_AGN_S12"]),
        (2, ["BPT_ANY_AGN"], ["NII_BPT", "NII_COMP"], ["WISE_W12", "WISE_SF_S12"]),
        (3, [], ["NII_BPT", "NII_SF"], ["WISE_SF_S12"]),
        (4, [], [], []),
        (5, ["AGN_ANY", "OPT_OTHER_AGN"], ["NII_BPT", "NII_SF"], []),
        (5, [], ["NII_BPT", "NII_SF"], []),
    ]
    table = Table({"TARGETID": np.array([39627902966927360 + row[0] for row in rows], np.int64)})
    table["SURVEY"] = np.array(["main   ", "sv3"] * 3).astype("S7")
    for place, mask in enumerate(desi_bits(), start=1):
        table[mask] = np.array([bits(mask, *row[place]) for row in rows], np.int64)
    auxiliary = Table({"TARGETID": table["TARGETID"], "FLUX_W1": np.ones(len(rows), np.float32)})
    units = [fits.BinTableHDU(part, name=name) for part, name in ((table, "AGNCAT"), (auxiliary, "AUXDATA"))]
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(tmp_path / "agnqso_desi.fits")
    ids = [str(39627902966927360 + number) for number in range(1, 6)]
    expected = {"desi-any": [P, U, N, U, U], "desi-bpt": [P, P, N, U, N], "desi-wise": [P, N, U, U, U]}
    for preset, of_preset in expected.items():
        assert labels(preset, tmp_path / "agnqso_desi.fits", ids) == of_preset, preset


@pytest.mark.parametrize(
    ("preset", "file"), [("type2-quasars-reyes2008", "Reyes2008.fits"), ("type2-quasars-yuan2016", "Yuan2016.fits")]
)
def test_every_row_of_a_real_list_of_type_2_quasars_is_found_by_its_spectrum(
    real_tree: Path, preset: str, file: str
) -> None:
    table = read_table(real_tree / "labels" / file)
    columns = [np.asarray(table[name], dtype=np.int64).tolist() for name in presets()[preset].columns]
    ids = [str(p << 50 | f << 38 | m - 50000 << 24) for p, m, f in zip(*columns, strict=True)]
    assert set(labels(preset, real_tree / "labels" / file, ids)) == {P}
