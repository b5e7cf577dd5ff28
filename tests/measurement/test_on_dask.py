"""A HATS catalogue is measured partition by partition, and the table is the one that the v1 tree gives."""

from pathlib import Path

import dask_worker
import numpy as np
import pytest
from astropy.table import Table

from mmagn.cli.main import main
from mmagn.config.run_config import RunConfig
from mmagn.pipeline import measure
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.surveys.config import DaskConfig, DataConfig

# nested_pandas 0.7 still says inplace= to pandas 3.1
pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")


@pytest.fixture(scope="module")
def hats(hub_tree, hats_collections, tmp_path_factory) -> DataConfig:
    return hats_collections(hub_tree, tmp_path_factory.mktemp("hats"), partition_rows=12)


def test_the_table_measured_on_dask_is_that_of_one_process(hub_tree, hats, tmp_path: Path):
    tree = DataConfig(source="hdf5", root=str(hub_tree), spectra=("sdss",))
    tables = []
    for data in (tree, hats):
        spectroscopy = SpectroscopyConfig(basis_minimum=10)
        config = RunConfig(data=data, dask=DaskConfig(workers=0), spectroscopy=spectroscopy)
        out = tmp_path / f"{data.source}.parquet"
        summary = measure(config, out)
        table = Table.read(out)
        assert summary.rows == len(table)
        table.sort("object_id")
        tables.append(table)
    expected, on_dask = tables
    assert on_dask.colnames == expected.colnames
    assert on_dask["flux_halpha"].unit == expected["flux_halpha"].unit
    for name in ("object_id", "bpt_class", "reason"):
        np.testing.assert_array_equal(on_dask[name], expected[name])
    for name in ("flux_halpha", "flux_oiii_5007", "ew_hbeta", "velocity_kms_balmer"):
        np.testing.assert_allclose(on_dask[name], expected[name], rtol=1e-3, atol=1e-2)


def test_workers_that_are_killed_again_and_again_end_in_one_sentence_and_the_command_resumes(
    hats, tmp_path: Path, monkeypatch, capsys
):
    import dask

    out = tmp_path / "table.parquet"
    arguments = ["--data.source", "hats", "--data.hats.sdss", hats.hats.sdss, "--spectroscopy.basis_minimum", "10"]
    with monkeypatch.context() as patch, dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        patch.setattr("mmagn.pipeline.measured_table", dask_worker.killed)
        assert main(["measure", *arguments, "--dask.workers", "1", "--out", str(out)]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("error: workers of the Dask cluster ended again and again")
    assert message.endswith("the same command resumes")
    assert list(tmp_path.iterdir()) == []
    assert main(["measure", *arguments, "--dask.workers", "0", "--out", str(out)]) == 0
    assert len(Table.read(out)) > 0
