"""Every galaxy of a source is in one part, with its partner where it has one."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmagn.matching.config import MatchingConfig
from mmagn.matching.objects import Galaxy, GivenPart, object_parts
from mmagn.surveys.config import DataConfig
from mmagn.surveys.simulate.spectra import simulated_spectra

MATCHING = MatchingConfig()


@pytest.fixture(scope="module")
def data(v1_tree, tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Spectra 1 to 7 and images of 5 to 9, in two files each."""
    sdss = [{"object_id": n, "ra": 150 + 0.01 * n, "dec": 2.0} for n in range(1, 8)]
    hsc = [{"object_id": 10 * n, "ra": 150 + 0.01 * n, "dec": 2.0} for n in range(5, 10)]
    tree = v1_tree(tmp_path_factory.mktemp("tree"), sdss=sdss, hsc=hsc, files_per_cell=2)
    return DataConfig(source="hdf5", root=str(tree), spectra=("sdss",))


def ids(data: DataConfig, objects: str, size: int) -> list[tuple[str, str]]:
    drops: Counter[str] = Counter()
    parts = object_parts(data, MATCHING, objects, drops, size)
    assert all(0 < len(part) <= size for part in parts)
    galaxies = [galaxy for part in parts for galaxy in part.galaxies(drops)]
    assert sum(map(len, parts)) == len(galaxies)
    return [(g.spectrum.object_id if g.spectrum else "", g.cutout.object_id if g.cutout else "") for g in galaxies]


@pytest.mark.parametrize("size", [1, 2, 100])
def test_pairs_images_and_spectra_together_are_all_galaxies_once(data: DataConfig, size: int) -> None:
    assert sorted(ids(data, "pairs", size)) == [("5", "50"), ("6", "60"), ("7", "70")]
    assert sorted(ids(data, "images", size)) == [("", "80"), ("", "90")]
    assert sorted(ids(data, "spectra", size)) == [(str(n), "") for n in range(1, 5)]
    assert len(ids(data, "all", size)) == 9


def test_images_need_no_other_survey(v1_tree, tmp_path: Path) -> None:
    hsc = [{"object_id": n, "ra": 150 + 0.01 * n, "dec": 2.0} for n in range(3)]
    data = DataConfig(source="hdf5", root=str(v1_tree(tmp_path / "tree", hsc=hsc)))
    assert len(ids(data, "images", 2)) == 3
    with pytest.raises(FileNotFoundError):
        object_parts(data, MATCHING, "pairs", Counter())


def test_a_part_is_narrowed_to_one_galaxy_by_either_id(data: DataConfig) -> None:
    for part in object_parts(data, MATCHING, "all", Counter(), 100):
        for object_id in ("6", "60", "80", "2"):
            alone = list(part.only(object_id).galaxies(Counter()))
            assert len(alone) <= 1
            for galaxy in alone:
                views = [view.object_id for view in (galaxy.spectrum, galaxy.cutout) if view is not None]
                assert object_id in views
    assert np.sum([len(p.only("60")) for p in object_parts(data, MATCHING, "all", Counter(), 100)]) == 1


def test_a_spectrum_in_memory_on_another_grid_is_refused_by_what_it_looks_like():
    (spectrum,), _ = simulated_spectra(1, np.random.default_rng(1))
    assert len(list(GivenPart(members=(Galaxy(cutout=None, spectrum=spectrum),)).galaxies(Counter()))) == 1
    wave = spectrum.wavelength_angstrom
    grids = {
        "steps of 0.8 A from 4000 A": 4000 + 0.8 * np.arange(len(wave)),
        "which look like nanometres": wave / 10,
        "which look like log10 of Angstrom": np.log10(wave),
    }
    for looks, grid in grids.items():
        other = Galaxy(cutout=None, spectrum=replace(spectrum, wavelength_angstrom=grid))
        with pytest.raises(ValueError, match=rf"spectrum 0: wavelength_angstrom has .*{looks}; expected steps of"):
            list(GivenPart(members=(other,)).galaxies(Counter()))
