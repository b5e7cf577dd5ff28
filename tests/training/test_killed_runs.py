"""A run that is killed, cut short or out of room at any moment loses nothing that a resumed run would miss."""

import dataclasses
import errno
import logging
import os
import signal
from multiprocessing import get_context

import pytest
import torch
from tiny_problem import killed_run
from training_runs import assert_same_end, at_training_batch

from mmagn.storage.run_folder import RunFolder
from mmagn.training.checkpoints import good_checkpoint, read_checkpoint
from mmagn.training.fit import RunRecord, fit

EVERYTHING = {
    "accumulate": 2,
    "ema": 0.9,
    "schedule": "cosine",
    "warmup_epochs": 0.5,
    "checkpoint_every_minutes": 0.0,
}
"""All that has a state of its own, and a checkpoint after every step."""


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Sums depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole_config(config):
    return dataclasses.replace(config, **EVERYTHING)


@pytest.fixture(scope="module")
def whole(whole_config, make_module, make_data, tmp_path_factory):
    """Result and folder of a run that nothing disturbed."""
    run = RunFolder.create(tmp_path_factory.mktemp("whole"), "tiny")
    return fit(make_module(whole_config), make_data(), run, RunRecord()), run


@pytest.mark.parametrize(("batch", "delay_s"), [(2, 0.0), (7, 0.004), (15, 0.0)])
def test_a_run_killed_at_any_moment_ends_as_an_undisturbed_one(trained, whole_config, whole, run, batch, delay_s):
    child = get_context("spawn").Process(target=killed_run, args=(run.path, whole_config, batch, delay_s))
    child.start()  # not a fork: a GPU that the tests before have used cannot be used in a forked process
    child.join()
    assert child.exitcode == -signal.SIGKILL
    result = trained(config=whole_config, resume=good_checkpoint(run))
    assert result.complete
    assert_same_end(run, whole[1])
    assert (result.best_score, result.best_epoch) == (whole[0].best_score, whole[0].best_epoch)
    assert run.weights.read_bytes() == whole[1].weights.read_bytes()


def test_a_stop_waits_for_the_end_of_an_accumulated_step(trained, whole_config, whole, run, make_module):
    module = at_training_batch(make_module(whole_config), 5, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    stopped = trained(config=whole_config, module=module)
    assert (stopped.stopped, stopped.epochs, stopped.steps) == ("sigterm", 1, 3), "batches 5 and 6 make a step"
    trained(config=whole_config, resume=run.last)
    assert_same_end(run, whole[1])


def test_the_scores_of_an_epoch_that_was_interrupted_are_those_of_all_its_batches(
    trained, config, run, make_module, caplog
):
    module = at_training_batch(make_module(config), 6, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    trained(module=module)
    with caplog.at_level(logging.INFO, logger="mmagn"):
        caplog.clear()
        trained(resume=run.last)
    ours = next(message for message in caplog.messages if message.startswith("epoch 2/4")).split()
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="mmagn"):
        trained(run=RunFolder.create(run.path.parent, "other"))
    theirs = next(message for message in caplog.messages if message.startswith("epoch 2/4")).split()
    assert ours[2:4] == theirs[2:4]
    assert ours[2] == "loss"


def test_a_cut_checkpoint_costs_one_step_and_no_more(trained, whole_config, whole, run, make_module, caplog):
    module = at_training_batch(make_module(whole_config), 8, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    trained(config=whole_config, module=module)
    run.last.write_bytes(run.last.read_bytes()[:2000])
    found = good_checkpoint(run)
    assert found == run.previous
    assert "last.ckpt is not a readable checkpoint" in caplog.text
    trained(config=whole_config, resume=found)
    assert_same_end(run, whole[1])


def test_a_disk_that_fills_up_within_an_epoch_keeps_the_last_good_checkpoint(
    trained, whole_config, whole, run, monkeypatch
):
    written, save = [], torch.save

    def full(checkpoint, file):
        written.append(checkpoint)
        if len(written) == 6:
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"no space to write .*(last|best)\.ckpt; the last good checkpoint is kept"):
        trained(config=whole_config)
    monkeypatch.undo()
    assert read_checkpoint(run.last)["global_step"] == 3
    assert not list(run.path.glob(".*.part"))
    trained(config=whole_config, resume=run.last)
    assert_same_end(run, whole[1])


def test_a_checkpoint_of_other_pairs_is_refused(trained, config, run):
    trained(config=dataclasses.replace(config, epochs=1), identity={"pairs": "abc"})
    with pytest.raises(ValueError, match=r"trained with other pairs than there are now \(abc, not xyz\)"):
        trained(resume=run.last, identity={"pairs": "xyz"})


def test_a_checkpoint_holds_all_that_a_run_consists_of(trained, whole_config, run):
    trained(config=whole_config, hyperparameters={"training": {"ema": 0.9}}, identity={"pairs": "abc"})
    found = read_checkpoint(run.last)
    assert found["settings"] == {"training": {"ema": 0.9}}
    assert found["identity"] == {"pairs": "abc"}
    assert found["loops"]["fit_loop"]["state_dict"]["combined_loader"], "where the loader stood"
    assert {"train_scores", "seed"} <= found.keys()
    assert found["callbacks"]["MovingAverage"]["updates"] == found["global_step"] == 8
