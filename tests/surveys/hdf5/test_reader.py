"""The published tree, with every fault a tree can have."""

from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import healpy
import numpy as np
import pytest

from mmagn.records import Catalog, Cutout, Spectrum
from mmagn.surveys.config import DataConfig
from mmagn.surveys.hdf5 import chunks
from mmagn.surveys.hdf5.reader import Hdf5Reader
from mmagn.surveys.reader import iter_spectra, usable

CELL, OTHER_CELL = 1106, 11
FILE = "001-of-001.hdf5"


def row(object_id: Any, cell: int = CELL, **overrides: Any) -> dict[str, Any]:
    ra_deg, dec_deg = healpy.pix2ang(16, cell, nest=True, lonlat=True)
    return {"object_id": object_id, "ra": ra_deg, "dec": dec_deg, "healpix": cell, **overrides}


def reader(root: Path, **settings: Any) -> Hdf5Reader:
    return Hdf5Reader(data=DataConfig(source="hdf5", root=str(root), **settings))


def spectra_of(path: str, rows: Any, drops: Counter[str]) -> list[tuple[int, Spectrum]]:
    return list(usable(reader(Path()).read_spectra(path, rows), drops))


def cutouts_of(path: str, rows: Any, drops: Counter[str]) -> list[tuple[int, Cutout]]:
    return list(usable(reader(Path()).read_cutouts(path, rows), drops))


def sdss_ids(catalog: Catalog) -> list[str]:
    return [str(object_id) for object_id in catalog.object_id]


def spectra_ids(root: Path, drops: Counter[str], **settings: Any) -> list[str]:
    return [spectrum.object_id for spectrum in iter_spectra(reader(root, **settings), drops)]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_both_catalogues_say_who_is_where(v1_tree, tmp_path):
    root = v1_tree(
        tmp_path, sdss=[row("100"), row("101", cell=OTHER_CELL)], hsc=[row(7, ra=359.9, dec=-89.0), row(8), row(9)]
    )
    drops: Counter[str] = Counter()
    sdss, hsc = reader(root).read_sdss_catalog(drops), reader(root).read_hsc_catalog(drops)
    assert sdss_ids(sdss) == ["101", "100"]
    assert sdss.healpix.tolist() == [OTHER_CELL, CELL]
    assert sdss_ids(hsc) == ["7", "8", "9"]
    assert hsc.row.tolist() == [0, 1, 2]
    assert (hsc.ra_deg[0], hsc.dec_deg[0]) == (359.9, -89.0)
    for catalog in (sdss, hsc):
        assert catalog.ra_deg.dtype.isnative
        assert (catalog.row.dtype, catalog.healpix.dtype, catalog.file_index.dtype) == ("i8", "i8", "i4")
        assert catalog.object_id.dtype.kind == "U"
    assert not drops


def test_several_surveys_and_several_files_of_a_cell_are_all_read(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row(f"10{number}") for number in range(5)], files_per_cell=2)
    v1_tree(tmp_path, sdss=[row("200")], sdss_survey="boss")
    v1_tree(tmp_path, sdss=[row("300")], sdss_survey="segue1")
    drops: Counter[str] = Counter()
    spectra = list(iter_spectra(reader(tmp_path), drops))
    assert [spectrum.object_id for spectrum in spectra] == ["100", "101", "102", "103", "104", "200"]
    assert [spectrum.survey for spectrum in spectra] == ["sdss"] * 5 + ["boss"]
    assert len(reader(tmp_path).read_sdss_catalog(drops).files) == 3
    assert not drops


def test_cell_names_are_read_strictly(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row("1", cell=11), row("2", cell=1106), row("3", cell=110)])
    folder = tmp_path / "sdss" / "sdss"
    for name in ("healpix=0011", "healpix=11-copy", "xhealpix=11", "healpix="):
        (folder / name).mkdir()
        (folder / name / FILE).write_bytes((folder / "healpix=110" / FILE).read_bytes())
    assert spectra_ids(tmp_path, Counter(), cells=(11,)) == ["1"]
    assert spectra_ids(tmp_path, Counter()) == ["1", "3", "2"]


def test_redshift_that_is_nan_or_outside_is_dropped_and_counted(v1_tree, tmp_path):
    redshifts = {"1": np.nan, "2": -0.001, "3": 0.0, "4": 0.5, "5": 7.0, "6": np.inf}
    v1_tree(tmp_path, sdss=[row(name, Z=value) for name, value in redshifts.items()])
    drops: Counter[str] = Counter()
    assert spectra_ids(tmp_path, drops, redshift_max=0.5) == ["3", "4"]
    assert drops == {
        "sdss: redshift is not finite": 2,
        "sdss: redshift is outside data.redshift_min 0.0 to data.redshift_max 0.5": 2,
    }


def test_first_of_repeated_ids_is_kept_across_files_and_surveys(v1_tree, tmp_path):
    v1_tree(
        tmp_path,
        sdss=[row("5", Z=np.nan), row("5", Z=0.2), row("5", Z=0.3)],
        hsc=[row(8), row(8, ra=row(8)["ra"] + 0.1)],
    )
    v1_tree(tmp_path, sdss=[row("5", Z=0.4), row("b'    6'", Z=0.1)], sdss_survey="boss")
    drops: Counter[str] = Counter()
    spectra = list(iter_spectra(reader(tmp_path), drops))
    assert [(spectrum.object_id, round(spectrum.redshift, 3)) for spectrum in spectra] == [("5", 0.2), ("6", 0.1)]
    assert drops["sdss: object_id seen before"] == 2
    hsc = reader(tmp_path).read_hsc_catalog(drops)
    assert hsc.ra_deg.tolist() == [row(8)["ra"]]
    assert drops["hsc: object_id seen before"] == 1


def test_position_off_the_sphere_is_dropped_and_counted(v1_tree, tmp_path):
    v1_tree(tmp_path, hsc=[row(1, ra=np.nan), row(2, dec=91.0), row(3, dec=np.inf), row(4)])
    drops: Counter[str] = Counter()
    assert sdss_ids(reader(tmp_path).read_hsc_catalog(drops)) == ["4"]
    assert drops == {"hsc: position is not finite or off the sphere": 3}


def test_wrong_band_order_is_dropped_before_matching(v1_tree, tmp_path):
    swapped = ("hsc-r", "hsc-g", "hsc-i", "hsc-z", "hsc-y")
    v1_tree(tmp_path, hsc=[row(1, image_band=swapped), row(2)])
    drops: Counter[str] = Counter()
    assert sdss_ids(reader(tmp_path).read_hsc_catalog(drops)) == ["2"]
    ((reason, count),) = drops.items()
    assert count == 1
    assert "hsc-r, hsc-g, hsc-i, hsc-z, hsc-y; expected hsc-g, hsc-r" in reason


def test_tree_with_nothing_but_wrong_bands_says_so(v1_tree, tmp_path):
    v1_tree(tmp_path, hsc=[row(1, image_band=("hsc-y", "hsc-z", "hsc-i", "hsc-r", "hsc-g"))])
    with pytest.raises(ValueError, match=r"no hsc object .* can be used: hsc: image_band is hsc-y, hsc-z"):
        reader(tmp_path).read_hsc_catalog(Counter())


def test_truncated_file_is_named_and_the_rest_goes_on(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row("1"), row("2", cell=OTHER_CELL)])
    truncate(tmp_path / "sdss" / "sdss" / f"healpix={OTHER_CELL}" / FILE)
    drops: Counter[str] = Counter()
    assert spectra_ids(tmp_path, drops) == ["1"]
    ((reason, count),) = drops.items()
    assert count == 1
    assert reason.startswith(
        f"sdss: file sdss/sdss/healpix={OTHER_CELL}/{FILE} is left out, Unable to synchronously open file (truncated"
    )


def test_tree_without_one_readable_file_is_an_error(v1_tree, tmp_path):
    v1_tree(tmp_path, hsc=[row(1)])
    truncate(tmp_path / "hsc" / "pdr3_dud_22.5" / f"healpix={CELL}" / FILE)
    with pytest.raises(ValueError, match=rf"no hsc object .* can be used: .*healpix={CELL}/{FILE} .* \(truncated"):
        reader(tmp_path).read_hsc_catalog(Counter())


@pytest.mark.parametrize(
    ("column", "purpose"), [("Z", "redshift"), ("spectrum_lsf_sigma", "instrumental width"), ("ra", "position")]
)
def test_missing_column_is_named_with_its_file_and_purpose(v1_tree, tmp_path, column, purpose):
    v1_tree(tmp_path, sdss=[row("1")], without=[column])
    v1_tree(tmp_path, sdss=[row("2")], sdss_survey="boss")
    drops: Counter[str] = Counter()
    assert spectra_ids(tmp_path, drops) == ["2"]
    assert drops == {
        f"sdss: file sdss/sdss/healpix={CELL}/{FILE} is left out, "
        f"it has no column {column}, which is needed for the {purpose}": 1
    }


def test_columns_of_different_length_are_refused(v1_tree, tmp_path):
    v1_tree(tmp_path, hsc=[row(1), row(2)])
    with h5py.File(tmp_path / "hsc" / "pdr3_dud_22.5" / f"healpix={CELL}" / FILE, "a") as file:
        del file["ra"]
        file["ra"] = [150.0]
    with pytest.raises(ValueError, match="it has 1 rows of ra but 2 of object_id"):
        reader(tmp_path).read_hsc_catalog(Counter())


def test_optional_columns_may_be_absent(v1_tree, tmp_path):
    optional = ["CLASS", "SUBCLASS", "ZWARNING", "Z_ERR", "VDISP", "VDISP_ERR", "image_scale"]
    magnitudes = [f"{band}_cmodel_mag" for band in "grizy"]
    v1_tree(tmp_path, sdss=[row("1")], hsc=[row(2)], without=[*optional, *magnitudes])
    drops: Counter[str] = Counter()
    (spectrum,) = iter_spectra(reader(tmp_path), drops)
    assert (spectrum.spectral_class, spectrum.spectral_subclass, spectrum.zwarning) == ("", "", 0)
    catalog = reader(tmp_path).read_hsc_catalog(drops)
    ((_, cutout),) = cutouts_of(catalog.files[0], catalog.row, drops)
    assert np.isnan(cutout.magnitude).all()
    assert not drops


def test_warning_as_a_flag_is_read(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row("1", ZWARNING=True), row("2", ZWARNING=False)])
    assert [spectrum.zwarning for spectrum in iter_spectra(reader(tmp_path), Counter())] == [1, 0]


def test_missing_root_names_the_setting(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"data.root .*nowhere is not a folder; expected one with sdss/sdss/heal"
    ):
        reader(tmp_path / "nowhere").read_sdss_catalog(Counter())


def test_missing_survey_names_the_setting_and_what_is_there(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row("1")], sdss_survey="segue1", hsc=[row(1)], hsc_survey="pdr3_wide_22.5")
    with pytest.raises(FileNotFoundError, match=r"no folder sdss/sdss or .*data.spectra.*holds segue1"):
        reader(tmp_path).read_sdss_catalog(Counter())
    with pytest.raises(
        FileNotFoundError, match=r"no folder hsc/pdr3_dud_22.5 \(data.hsc_survey\).*holds pdr3_wide_22.5"
    ):
        reader(tmp_path).read_hsc_catalog(Counter())


def test_survey_without_cells_is_an_error(tmp_path):
    (tmp_path / "sdss" / "sdss" / "healpix=12").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"holds no healpix=N/\*.hdf5; it holds healpix=12"):
        reader(tmp_path).read_sdss_catalog(Counter())


def test_cells_that_are_not_there_are_an_error(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row("1")])
    with pytest.raises(FileNotFoundError, match=rf"none of data.cells 3, 4 is in .*1 cells, the first of them {CELL}"):
        reader(tmp_path, cells=(3, 4)).read_sdss_catalog(Counter())


def test_spectra_of_different_length_come_back_without_padding(v1_tree, tmp_path):
    names = ("spectrum_flux", "spectrum_ivar", "spectrum_lambda", "spectrum_lsf_sigma")
    short = dict.fromkeys(names, 10 ** (3.6 + 1e-4 * np.arange(120)))
    v1_tree(tmp_path, sdss=[row("1", **short, spectrum_mask=np.zeros(120, dtype=bool)), row("2")])
    lengths = [len(spectrum.flux) for spectrum in iter_spectra(reader(tmp_path), Counter())]
    assert lengths == [120, 200]


def test_rows_come_in_ascending_order_each_once(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row(str(100 + number)) for number in range(6)], hsc=[row(number) for number in range(6)])
    drops: Counter[str] = Counter()
    sdss, hsc = reader(tmp_path).read_sdss_catalog(drops), reader(tmp_path).read_hsc_catalog(drops)
    wanted = np.array([4, 1, 2, 1])
    spectra = spectra_of(sdss.files[0], wanted, drops)
    cutouts = cutouts_of(hsc.files[0], wanted, drops)
    assert [(number, spectrum.object_id) for number, spectrum in spectra] == [(1, "101"), (2, "102"), (4, "104")]
    assert [(number, cutout.object_id) for number, cutout in cutouts] == [(1, "1"), (2, "2"), (4, "4")]
    assert cutouts_of(hsc.files[0], np.array([], dtype=np.int64), drops) == []
    assert not drops


def test_bad_rows_are_dropped_by_reason_and_the_rest_goes_on(v1_tree, tmp_path):
    masked = np.zeros((5, 160, 160), dtype=bool)
    v1_tree(
        tmp_path,
        sdss=[row("1", spectrum_flux=np.full(200, np.nan)), row("2"), row("3", spectrum_ivar=np.zeros(200))],
        hsc=[row(1), row(2, image_mask=masked), row(3, image_scale=np.full(5, 0.3)), row(4)],
    )
    drops: Counter[str] = Counter()
    hsc = reader(tmp_path).read_hsc_catalog(drops)
    assert spectra_ids(tmp_path, drops) == ["2"]
    assert [number for number, _ in cutouts_of(hsc.files[0], hsc.row, drops)] == [0, 3]
    assert drops == {
        "sdss: spectrum has no valid pixel": 2,
        "hsc: image has no valid pixel": 1,
        "hsc: image_scale is not 0.168 arcsec per pixel": 1,
    }


def test_damaged_chunk_costs_the_rest_of_its_file_only(v1_tree, tmp_path):
    v1_tree(tmp_path, hsc=[row(number) for number in range(3)])
    path = tmp_path / "hsc" / "pdr3_dud_22.5" / f"healpix={CELL}" / FILE
    with h5py.File(path, "a") as file:
        first = file["image_ivar"].chunks[0]
        file["image_ivar"].id.write_direct_chunk((2 // first * first, 0, 0, 0), b"torn")
    drops: Counter[str] = Counter()
    assert [number for number, _ in cutouts_of(str(path), np.arange(3), drops)] == list(range(2 // first * first))
    ((reason, count),) = drops.items()
    assert f"hsc/pdr3_dud_22.5/healpix={CELL}/{FILE} is left out, /image_ivar is damaged in the chunk" in reason
    assert count == 3 - 2 // first * first


def test_a_file_that_vanished_since_the_index_stops_the_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="healpix=3"):
        spectra_of(str(tmp_path / "sdss" / "sdss" / "healpix=3" / FILE), np.arange(5), Counter())


def test_reading_may_stop_early(v1_tree, tmp_path):
    v1_tree(tmp_path, hsc=[row(number) for number in range(4)])
    drops: Counter[str] = Counter()
    path = reader(tmp_path).read_hsc_catalog(drops).files[0]
    cutouts = reader(tmp_path).read_cutouts(path, np.arange(4))
    assert next(cutouts)[0] == 0
    cutouts.close()
    with h5py.File(path, "a") as file:
        assert len(file["image_array"]) == 4
    assert not drops


def test_images_are_inflated_once_and_whole_files_never_held(v1_tree, tmp_path, monkeypatch):
    v1_tree(tmp_path, hsc=[row(number) for number in range(12)])
    path = reader(tmp_path).read_hsc_catalog(Counter()).files[0]
    sizes: list[int] = []
    inflated = chunks.inflated

    def counted(data: bytes, size: int) -> bytes | bytearray:
        sizes.append(size)
        return inflated(data, size)

    monkeypatch.setattr(chunks, "inflated", counted)
    with h5py.File(path) as file:
        stored = sum(file[name].id.get_num_chunks() for name in ("image_array", "image_ivar", "image_mask"))
        rows_of_a_block = file["image_mask"].chunks[0]
    assert rows_of_a_block < 12
    assert len(cutouts_of(path, np.arange(12), Counter())) == 12
    assert len(sizes) == stored


def test_sources_are_the_files_of_both_catalogues(v1_tree, tmp_path):
    v1_tree(tmp_path, sdss=[row("1")], hsc=[row(1), row(2, cell=OTHER_CELL)])
    drops: Counter[str] = Counter()
    catalogs = (reader(tmp_path).read_sdss_catalog(drops), reader(tmp_path).read_hsc_catalog(drops))
    files = {str(tmp_path / source.name) for source in reader(tmp_path).sources()}
    assert files == {path for catalog in catalogs for path in catalog.files}
