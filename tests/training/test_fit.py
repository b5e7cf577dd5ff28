import dataclasses
import json
import logging
import math
import os
import re
import signal

import pytest
import torch
from matplotlib.figure import Figure
from training_runs import assert_same_end, at_training_batch, board, scalars

from mmagn.storage.run_folder import RunFolder
from mmagn.training.callbacks import NonFiniteLossError
from mmagn.training.checkpoints import read_checkpoint
from mmagn.training.device import device_name, precision_name
from mmagn.training.fit import DeviceFailedError


def test_one_batch_can_be_overfitted(trained, data, config, run, make_rows, make_module, make_network):
    data.train = data.validation = make_rows(16, 1)
    easy = dataclasses.replace(config, epochs=40, learning_rate=0.05, patience=40)
    torch.manual_seed(0)
    result = trained(config=easy, module=make_module(easy, network=make_network(dropout=0.0)))
    assert result.best_score == pytest.approx(1.0)
    assert scalars(run, "train/loss_step")[-1] < 0.05 * scalars(run, "train/loss_step")[0]


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(trained, run, tmp_path, undisturbed):
    other = RunFolder.create(tmp_path / "other", "x")
    trained()
    trained(run=other, seed=4)
    losses = [scalars(folder, "train/loss_step") for folder in (undisturbed[1], run, other)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert_same_end(run, undisturbed[1])


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_run_that_is_extended_equals_one_that_was_long_from_the_start(trained, config, run, undisturbed, epochs):
    whole, long = undisturbed
    trained(config=dataclasses.replace(config, epochs=epochs))
    torch.rand(7)
    result = trained(resume=run.last)
    assert_same_end(run, long)
    assert (result.best_score, result.best_epoch) == (whole.best_score, whole.best_epoch)
    assert (result.epochs, result.steps) == (4, 16)
    best, long_best = read_checkpoint(run.best)["state_dict"], read_checkpoint(long.best)["state_dict"]
    assert all(torch.equal(best[name], long_best[name]) for name in best)


def raise_error(batch):
    raise RuntimeError("power cut")


def press_ctrl_c(batch):
    os.kill(os.getpid(), signal.SIGINT)


def send_sigterm(batch):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("action", "batch"),
    [
        (raise_error, 1),
        (raise_error, 4),
        (raise_error, 5),
        (press_ctrl_c, 10),
        (press_ctrl_c, 16),
        (send_sigterm, 3),
        (send_sigterm, 4),
        (send_sigterm, 16),
    ],
)
def test_a_run_stopped_at_any_step_goes_on_as_if_nothing_had_happened(
    trained, config, run, undisturbed, make_module, batch, action
):
    stopped = None
    try:
        stopped = trained(module=at_training_batch(make_module(config), batch, action))
    except RuntimeError:
        assert action is raise_error
    if action is not raise_error:
        assert stopped.stopped == {press_ctrl_c: "interrupt", send_sigterm: "sigterm"}[action]
        assert stopped.exit_code == (130 if action is press_ctrl_c else 0)
        assert not stopped.complete
        assert stopped.steps == batch == read_checkpoint(run.last)["global_step"], "the step is the last that was done"
        assert stopped.epochs == batch // 4
    result = trained(resume=run.last)
    assert result.complete
    assert_same_end(run, undisturbed[1])


def test_a_second_ctrl_c_stops_at_once_and_the_last_checkpoint_stands(trained, config, run, make_module, undisturbed):
    def twice(batch):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    stopped = trained(module=at_training_batch(make_module(config), 6, twice))
    assert (stopped.stopped, stopped.steps) == ("interrupt", 4)
    trained(resume=run.last)
    assert_same_end(run, undisturbed[1])


def test_signals_are_back_in_place_after_training(trained, config, make_module):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    trained(module=at_training_batch(make_module(config), 2, press_ctrl_c))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_run_interrupted_in_its_first_epoch_says_how_to_go_on(trained, config, run, make_module, caplog):
    with caplog.at_level(logging.INFO, logger="mmagn"):
        result = trained(module=at_training_batch(make_module(config), 2, press_ctrl_c))
    assert result.best_path is None
    assert result.epochs == 0
    assert f"resume with --resume {run.path}" in caplog.messages[-1]


def test_a_run_moved_elsewhere_and_resumed_into_a_new_folder_keeps_its_best(trained, config, run, tmp_path):
    trained(config=dataclasses.replace(config, epochs=3))
    moved = RunFolder(run.path.rename(tmp_path / "moved"))
    new = RunFolder.create(tmp_path / "new", "x")
    result = trained(run=new, config=dataclasses.replace(config, learning_rate=0.01), resume=moved.last)
    assert result.best_path.is_file()
    assert result.epochs == 4


def test_training_stops_when_the_score_no_longer_improves_and_stays_stopped(trained, config, run):
    still = dataclasses.replace(config, epochs=50, patience=2, learning_rate=1e-12)
    result = trained(config=still)
    assert result.stopped == "patience"
    assert result.epochs < 50
    again = trained(config=still, resume=run.last)
    assert (again.stopped, again.epochs, again.steps) == ("patience", result.epochs, result.steps)


def test_a_finished_run_that_is_resumed_stays_as_it_is(trained, run):
    result = trained()
    before = run.last.read_bytes()
    again = trained(resume=run.last)
    assert (again.stopped, again.epochs, again.best_score) == ("epochs", 4, result.best_score)
    assert run.last.read_bytes() == before


def test_the_best_checkpoint_is_that_of_the_best_validation_score(undisturbed):
    result, run = undisturbed
    scores = scalars(run, "validation/average_precision")
    assert result.best_score == pytest.approx(max(scores))
    assert result.best_epoch == scores.index(max(scores))
    assert read_checkpoint(result.best_path)["epoch"] == result.best_epoch


def test_every_promised_quantity_is_in_tensorboard(trained, config, run):
    drawn = []

    def figure(target, score):
        drawn.append((target, score))
        return Figure(figsize=(1, 1))

    trained(
        config=dataclasses.replace(config, figures_every=3),
        hyperparameters={"training": {"learning_rate": 0.01}, "name": "tiny"},
        figures={"validation/precision_recall_curve": figure},
        static_figures={"gallery": lambda: Figure(figsize=(1, 1))},
    )
    tags = board(run).Tags()
    names = ("loss", "average_precision", "roc_auc", "recall", "precision")
    wanted = {f"{split}/{name}" for split in ("train", "validation") for name in names}
    wanted |= {
        "train/loss_step",
        "train/gradient_norm",
        "train/learning_rate",
        "selection/score",
        "selection/best_score",
        "speed/pairs_per_s",
        "gradient_norm/layers",
    }
    assert wanted <= set(tags["scalars"])
    assert set(tags["images"]) == {"validation/precision_recall_curve", "gallery"}
    steps = [event.step for event in board(run).Images("validation/precision_recall_curve")]
    assert steps == [4, 16], "after epochs 1 and 4, with 4 steps each"
    hparams = board(run).PluginTagToContent("hparams")
    assert any(b"training.learning_rate" in content for content in hparams.values())
    target, score = drawn[-1]
    assert target.shape == score.shape == (48,)
    assert 0 < target.sum() < 48
    assert ((score > 0) & (score < 1)).all()
    assert scalars(run, "train/learning_rate") == pytest.approx([0.01] * 4)
    assert all(speed > 0 for speed in scalars(run, "speed/pairs_per_s"))
    assert scalars(run, "gradient_norm/layers") == pytest.approx(scalars(run, "train/gradient_norm"), rel=1e-5)


def test_the_console_gets_one_line_per_epoch(trained, caplog, capfd):
    with caplog.at_level(logging.INFO):
        trained()
    epochs = [message for message in caplog.messages if message.startswith("epoch ")]
    assert [line.split()[1] for line in epochs] == ["1/4", "2/4", "3/4", "4/4"]
    assert all("validation loss" in line and "average precision" in line for line in epochs)
    assert all(re.search(r" at most \d+ s left$", line) for line in epochs[:-1]) and "left" not in epochs[-1]
    assert caplog.messages[0].startswith("start-up took ")
    assert len(caplog.messages) == 6, "and one sentence at the end"
    assert capfd.readouterr().err == ""


def test_a_loss_that_is_not_a_number_stops_the_run_and_names_its_objects(trained, config, data, run):
    data.train.features[[7, 21]] = math.nan
    rare = dataclasses.replace(config, log_every=100)
    with pytest.raises(NonFiniteLossError, match=r"epoch 1, step \d: the loss is nan .* objects of rows") as caught:
        trained(config=rare)
    order = torch.cat(data.train_dataloader().sampler.batches()).tolist()
    first = min(order.index(7), order.index(21)) // 16
    assert caught.value.index == tuple(order[16 * first : 16 * first + 16])
    recorded = json.loads(run.bad_batch.read_text())
    assert recorded["index"] == list(caught.value.index)
    assert f"at epoch {recorded['epoch']}, step {recorded['step']}:" in str(caught.value), "both count from 1"
    weights = read_checkpoint(run.last)["state_dict"]
    assert all(torch.isfinite(value).all() for value in weights.values()), "what can be resumed is sound"


def test_a_bad_batch_is_known_by_the_names_of_its_objects(trained, config, data, run):
    data.train.features[:] = math.nan
    names = [f"spec-{row:04d}" for row in range(64)]
    with pytest.raises(NonFiniteLossError, match=r"the batch holds the objects spec-\d{4}, spec-\d{4}, ") as caught:
        trained(object_ids=names)
    assert json.loads(run.bad_batch.read_text())["object_ids"] == [names[row] for row in caught.value.index]


def test_without_positives_in_validation_its_loss_decides(trained, data, run, caplog):
    data.validation.target[:] = 0
    result = trained(figures={"validation/curve": lambda *_: pytest.fail("there is nothing to draw")})
    assert result.best_score == pytest.approx(-min(scalars(run, "validation/loss")))
    assert "validation/average_precision" not in board(run).Tags()["scalars"]
    warnings = [message for message in caplog.messages if "lacks a class" in message]
    assert len(warnings) == 1


def test_without_a_validation_split_the_training_loss_decides(trained, data, make_rows, run, caplog):
    data.validation = make_rows(0, 2)
    result = trained()
    assert result.best_score == pytest.approx(-min(scalars(run, "train/loss")))
    assert sum("is empty" in message for message in caplog.messages) == 1


def test_resuming_with_another_seed_or_network_says_so(trained, config, run, make_module, make_network):
    trained(config=dataclasses.replace(config, epochs=1))
    with pytest.raises(ValueError, match="trained with seed 3, not 4"):
        trained(seed=4, resume=run.last)
    other = make_network()
    other.layers[4] = torch.nn.Linear(8, 1, bias=False)
    with pytest.raises(ValueError, match=r"another network: 1 weights are not wanted, such as model\.layers\.4\.bias"):
        trained(module=make_module(config, network=other), resume=run.last)


def test_a_cut_or_missing_checkpoint_is_refused_in_one_sentence(trained, config, run):
    trained(config=dataclasses.replace(config, epochs=1))
    run.last.write_bytes(run.last.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"last\.ckpt is not a readable checkpoint"):
        trained(resume=run.last)
    with pytest.raises(ValueError, match=r"best\.ckpt holds weights only.*resume from last\.ckpt"):
        trained(resume=run.best)
    with pytest.raises(FileNotFoundError, match="there is no such checkpoint"):
        trained(resume=run.path / "none.ckpt")


@pytest.mark.skipif(torch.cuda.is_available(), reason="states what happens on a machine without CUDA")
def test_without_cuda_auto_is_the_cpu_in_full_precision_and_cuda_is_refused(config):
    auto = dataclasses.replace(config, device="auto")
    assert device_name(auto) == "cpu"
    assert precision_name(auto, "cpu") == "32-true"
    with pytest.raises(ValueError, match=r"training\.device is cuda, but torch finds no CUDA device"):
        device_name(dataclasses.replace(config, device="cuda"))


def test_a_gpu_that_fails_ends_in_one_sentence_with_the_checkpoint_to_resume(trained, config, run, make_module):
    def fail(_):
        raise RuntimeError("CUDA error: unspecified launch failure\nCUDA kernel errors might be reported later")

    with pytest.raises(DeviceFailedError, match=r"^the GPU failed \(CUDA error: unspecified launch failure\); resume"):
        trained(module=at_training_batch(make_module(config), 6, fail))
    assert read_checkpoint(run.last)["global_step"] == 4


def test_a_run_on_the_cpu_does_not_touch_a_gpu(trained, monkeypatch):
    def touched(*_, **__):
        raise AssertionError("CUDA was initialised")

    monkeypatch.setattr(torch.cuda, "_lazy_init", touched)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", touched)
    assert trained().complete
