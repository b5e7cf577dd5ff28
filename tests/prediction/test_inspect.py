"""A spectrum is found by its id, wherever it is, and drawn."""

from pathlib import Path

import pytest

from mmagn.config.run_config import RunConfig
from mmagn.prediction.inspect import plot_spectrum
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.surveys.config import DataConfig


def config_of(root: Path) -> RunConfig:
    data = DataConfig(source="hdf5", root=str(root))
    return RunConfig(data=data, spectroscopy=SpectroscopyConfig(continuum="local", device="cpu"))


def test_one_of_the_real_spectra_becomes_a_picture(real_tree: Path, tmp_path: Path) -> None:
    path = plot_spectrum(config_of(real_tree), "403210735615764480", tmp_path / "pictures")
    assert path == tmp_path / "pictures" / "403210735615764480.png"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_an_unknown_id_is_refused_with_an_example(v1_tree, tmp_path: Path) -> None:
    row = {"object_id": 77, "ra": 150.0, "dec": 2.0}
    v1_tree(tmp_path / "tree", sdss=[row], hsc=[{**row, "object_id": 5}])
    with pytest.raises(ValueError, match="no spectrum with object_id 12; its 1 ids look like 77"):
        plot_spectrum(config_of(tmp_path / "tree"), "12", tmp_path)
