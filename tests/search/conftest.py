"""Fixtures of the search: a sample of features alone, its labels planted, and settings that are quick to search."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.table import Table

from mmagn.config.run_config import RunConfig
from mmagn.config.search import SearchConfig
from mmagn.evaluation.config import EvaluationConfig
from mmagn.features.names import FEATURE_NAMES
from mmagn.models.config import ModelsConfig
from mmagn.runs.sample import Sample
from mmagn.surveys.config import DataConfig
from mmagn.training.config import TrainingConfig


def planted_sample(count: int = 150, signal: float = 1.5, seed: int = 0) -> Sample:
    """Labelled objects all over the sky; one of ten features holds the label with a given strength."""
    rng = np.random.default_rng(seed)
    target = (rng.random(count) < 0.35).astype(np.float64)
    table = Table({name: rng.normal(size=count) for name in FEATURE_NAMES})
    table["continuum_level"] += signal * target
    table["object_id"], table["survey"] = np.arange(count).astype(str), "sdss"
    table["ra_deg"], table["dec_deg"] = rng.uniform(0, 360, count), rng.uniform(-60, 60, count)
    table["redshift"], table["snr_median"] = rng.uniform(0, 0.3, count), rng.uniform(2, 30, count)
    store = SimpleNamespace(
        fingerprint=str(seed), simulated=True, index=Table({"hsc_object_id": np.arange(count).astype(str)})
    )
    return Sample(
        store=store,  # type: ignore[arg-type]
        table=table,
        rows=np.arange(count),
        target=target,
        split=np.where(np.arange(count) % 5 == 0, "test", "train"),
    )


def small_config(base: Path) -> RunConfig:
    """A search of the head over a few trials, three epochs each."""
    return RunConfig(
        name="small",
        runs_dir=str(base / "runs"),
        data=DataConfig(cache_dir=str(base / "cache")),
        models=ModelsConfig(branches=("features",), dropout=0.3),
        training=TrainingConfig(device="cpu", epochs=3, learning_rate=0.01),
        evaluation=EvaluationConfig(bootstrap_draws=200),
        search=SearchConfig(trials=6, folds=3, startup_trials=3),
    )


@pytest.fixture(scope="session")
def sample_of() -> Callable[..., Sample]:
    return planted_sample


@pytest.fixture
def small(tmp_path: Path) -> RunConfig:
    return small_config(tmp_path)


@pytest.fixture(scope="session")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """The same in a folder that lasts."""
    return small_config(tmp_path_factory.mktemp("search"))
