"""Fixtures of the tiny problem."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_problem import Rows, TinyData, TinyNetwork, tiny_data, tiny_module, tiny_rows
from torch import nn

from mmagn.storage.run_folder import RunFolder
from mmagn.training.config import TrainingConfig
from mmagn.training.fit import FitResult, RunRecord, fit
from mmagn.training.module import AgnModule


@pytest.fixture(scope="session")
def make_rows() -> Callable[[int, int], Rows]:
    return tiny_rows


@pytest.fixture(scope="session")
def make_module() -> Callable[..., AgnModule]:
    return tiny_module


@pytest.fixture(scope="session")
def make_network() -> Callable[..., nn.Module]:
    return TinyNetwork


@pytest.fixture(scope="session")
def make_data() -> Callable[[], TinyData]:
    return tiny_data


@pytest.fixture
def data() -> TinyData:
    return tiny_data()


@pytest.fixture(scope="session")
def config() -> TrainingConfig:
    return TrainingConfig(epochs=4, batch_size=16, learning_rate=0.01, device="cpu", log_every=1)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "tiny")


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, config: TrainingConfig) -> tuple[FitResult, RunFolder]:
    """Result and folder of four epochs without any interruption."""
    run = RunFolder.create(tmp_path_factory.mktemp("undisturbed"), "tiny")
    return fit(tiny_module(config), tiny_data(), run, RunRecord()), run


@pytest.fixture
def trained(data: TinyData, config: TrainingConfig, run: RunFolder) -> Callable[..., FitResult]:
    """Train on the tiny problem; module, or its config and seed, run and data, and what is recorded can be replaced."""

    def train(resume: Path | None = None, **changes: Any) -> FitResult:
        settings = {"datamodule": data, "run": run, "config": config, "seed": 3, **changes}
        module = settings.pop("module", None) or tiny_module(settings["config"], seed=settings["seed"])
        module.config = settings.pop("config") if "config" in changes else module.config
        del settings["seed"]
        settings.pop("config", None)
        into, where = settings.pop("datamodule"), settings.pop("run")
        return fit(module, into, where, RunRecord(**settings), resume=resume)

    return train
