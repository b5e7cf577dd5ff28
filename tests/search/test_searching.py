"""A search from config to best settings: it never sees the test split, finds signal, and finds nothing in noise."""

import csv
import dataclasses
import json
from collections.abc import Callable
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmagn.config import RunConfig, load_config
from mmagn.evaluation.search_config import SearchConfig
from mmagn.sample import Sample
from mmagn.search import searching
from mmagn.search.folds import part_of, searched_sample
from mmagn.search.nested import nested_search
from mmagn.search.searching import Search, search
from mmagn.surveys.config import SimulateConfig


def searched(config: RunConfig, sample: Sample, monkeypatch: pytest.MonkeyPatch) -> Search:
    monkeypatch.setattr(searching, "labelled_sample", lambda _: sample)
    return search(config)


def read_json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def trials_of(path: Path) -> list[dict[str, str]]:
    with (path / "trials.csv").open(encoding="utf-8") as file:
        return [
            {name: value for name, value in row.items() if name != "duration_s"} for row in csv.DictReader(file)
        ]


def test_labels_of_the_test_split_change_nothing(
    small: RunConfig, sample_of: Callable[..., Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = sample_of()
    flipped = np.where(sample.split == "test", 1 - sample.target, sample.target)
    found = []
    for number, target in enumerate((sample.target, flipped)):
        cache = replace(small.data, cache_dir=str(tmp_path / f"cache-{number}"))
        config = replace(small, data=cache, search=replace(small.search, nested=True, outer_folds=2, trials=4))
        result = searched(config, replace(sample, target=target), monkeypatch)
        told = read_json(result.path / "search.json")
        found.append((told, trials_of(result.path), (result.path / "best.yaml").read_text().splitlines()[1:-1]))
    assert found[0][:2] == found[1][:2]
    seen = searched_sample(sample)
    assert len(seen.target) == np.sum(sample.split != "test")
    assert not set(sample.rows[sample.split == "test"]) & set(seen.rows)
