"""Soft labels reach the training objects alone; everything that is scored keeps 0 or 1."""

from dataclasses import replace

import numpy as np
import pytest
from untrained_runs import thirds

from mmagn.runs.sample import training_pos_weight, training_target


def test_training_objects_are_shown_their_probability_and_the_others_their_class(world: dict) -> None:
    config, sample = world["config"], world["sample"]
    train, validation = thirds(sample)
    soft = replace(config, labels=replace(config.labels, soft=True))
    masked_batch = training_target(soft, sample, train)
    p_agn = np.asarray(sample.table["p_agn"])[sample.rows]
    np.testing.assert_array_equal(masked_batch[train], p_agn[train])
    rest = np.setdiff1d(np.arange(len(masked_batch)), train)
    np.testing.assert_array_equal(masked_batch[rest], sample.target[rest])
    assert set(np.unique(masked_batch[validation])) <= {0.0, 1.0}
    assert ((p_agn[train] > 0) & (p_agn[train] < 1)).any()
    np.testing.assert_array_equal(training_target(config, sample, train), sample.target)


def test_an_object_without_a_probability_keeps_its_class(world: dict) -> None:
    config, sample = world["config"], world["sample"]
    table = sample.table.copy()
    table["p_agn"][sample.rows[:2]] = np.nan
    soft = replace(config, labels=replace(config.labels, soft=True))
    masked_batch = training_target(soft, replace(sample, table=table), np.arange(len(sample.rows)))
    np.testing.assert_array_equal(masked_batch[:2], sample.target[:2])
    assert np.isfinite(masked_batch).all()


def test_the_weight_of_positives_counts_parts_of_objects(world: dict) -> None:
    config, sample = world["config"], world["sample"]
    everyone = np.arange(len(sample.target))
    soft = replace(config, labels=replace(config.labels, soft=True))
    p_agn = np.asarray(sample.table["p_agn"])[sample.rows]
    assert training_pos_weight(soft, sample, everyone) == pytest.approx((1 - p_agn).sum() / p_agn.sum())
    assert training_pos_weight(config, sample, everyone) == pytest.approx(
        (1 - sample.target).sum() / sample.target.sum()
    )
