"""What a run records of its sample."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from astropy.table import Table

from mmagn.config.run_config import RunConfig
from mmagn.runs.sample import Sample


def test_the_summary_of_a_sample_counts_and_leaves_the_ids_of_repeated_spectra_to_the_store() -> None:
    classes = ["seyfert", "star-forming", "unclassified"]
    table = Table({"survey": ["sdss", "boss", "sdss"], "bpt_class": classes, "reason": ["", "", "quasar"]})
    report = {"pairs": 3, "drops": {"repeats another spectrum": 1}, "repeats": {"299489677444933632": ["1"]}}
    store: Any = SimpleNamespace(simulated=False, report=report)
    split = np.array(["train", "test"])
    sample = Sample(store=store, table=table, rows=np.array([0, 1]), target=np.array([1.0, 0.0]), split=split)
    summary = sample.summary(RunConfig())
    assert summary["matching"] == {"pairs": 3, "drops": {"repeats another spectrum": 1}}
    assert summary["surveys"] == {"sdss": 2, "boss": 1}
    assert summary["splits"] == {"train": 1, "validation": 0, "test": 1}
