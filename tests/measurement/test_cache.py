"""A store is measured once, and again where pairs, settings, code or files have changed."""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from mmagn.labels.config import LabelsConfig
from mmagn.matching.config import MatchingConfig
from mmagn.matching.store import PairStore, pair_store
from mmagn.measurement import cache as module
from mmagn.measurement.cache import measured_store
from mmagn.spectroscopy.config import SpectroscopyConfig
from mmagn.surveys.config import DataConfig, SimulateConfig

SPECTROSCOPY = SpectroscopyConfig(device="cpu", basis_terms=2, basis_minimum=6)
LABELS = LabelsConfig(draws=10)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PairStore:
    simulate = SimulateConfig(pairs=16, unmatched=0.0, cells=1)
    data = DataConfig(cache_dir=str(tmp_path_factory.mktemp("survey")), simulate=simulate)
    return pair_store(data, MatchingConfig(workers=1))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each time that lines are measured."""
    times: list[int] = []
    plain = module.measured_tables

    def counted(*arguments: object, **named: object) -> Table:
        times.append(1)
        return plain(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "measured_tables", counted)
    return times


def same(left: Table, right: Table) -> bool:
    """Columns, types, units and values agree, NaN with NaN; older BLAS rounds by where an array lies in memory."""
    return left.colnames == right.colnames and all(
        left[name].dtype == right[name].dtype
        and left[name].unit == right[name].unit
        and (
            np.allclose(left[name], right[name], rtol=1e-9, atol=0, equal_nan=True)
            if left[name].dtype.kind == "f"
            else np.array_equal(left[name], right[name])
        )
        for name in left.colnames
    )


def test_a_second_run_finds_the_same_table_and_basis(store: PairStore, tmp_path: Path, measured: list[int]) -> None:
    table, basis = measured_store(store, SPECTROSCOPY, LABELS, tmp_path)
    again, basis_again = measured_store(store, SPECTROSCOPY, LABELS, tmp_path)
    assert len(measured) == 1
    assert same(table, again) and len(table) == len(store)
    assert basis is not None and basis == basis_again


def test_other_settings_and_other_code_are_measured_anew(
    store: PairStore, tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_store(store, SPECTROSCOPY, LABELS, tmp_path)
    measured_store(store, replace(SPECTROSCOPY, continuum="local"), LABELS, tmp_path)
    measured_store(store, SPECTROSCOPY, replace(LABELS, min_snr=5.0), tmp_path)
    assert len(measured) == 3
    monkeypatch.setattr(module, "code_digest", lambda *_: "other code")
    measured_store(store, SPECTROSCOPY, LABELS, tmp_path)
    assert len(measured) == 4


@pytest.mark.parametrize("suffix", [".parquet", ".safetensors"])
@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_damaged_files_are_made_again(
    store: PairStore,
    tmp_path: Path,
    measured: list[int],
    suffix: str,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    table, _ = measured_store(store, SPECTROSCOPY, LABELS, tmp_path)
    (path,) = (tmp_path / "measurements").glob(f"*{suffix}")
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size // 2)
    with caplog.at_level(logging.WARNING, "mmagn"):
        again, basis = measured_store(store, SPECTROSCOPY, LABELS, tmp_path)
    assert len(measured) == 2
    assert same(table, again) and basis is not None
    assert (suffix, damage) == (".parquet", "gone") or "measuring again" in caplog.text


def test_without_a_basis_there_is_none_to_find(store: PairStore, tmp_path: Path) -> None:
    local = replace(SPECTROSCOPY, continuum="local")
    assert [measured_store(store, local, LABELS, tmp_path)[1] for _ in range(2)] == [None, None]
    assert not list((tmp_path / "measurements").glob("*.safetensors"))
