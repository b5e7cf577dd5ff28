"""What each logger of a run gets, read back with the tools that people look at it with."""

import csv
import dataclasses
import importlib.util

import matplotlib.figure
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util import tensor_util

from mmagn.training.loggers import METRICS, check_loggers

SETTINGS = {"name": "tiny", "training": {"epochs": 4, "learning_rate": 0.01, "pos_weight": None}, "seed": 3}


def drawn(*_):
    figure = matplotlib.figure.Figure()
    figure.add_subplot().plot([0, 1])
    return figure


def events(run):
    accumulator = EventAccumulator(str(run.tensorboard), size_guidance={"tensors": 0, "scalars": 0})
    return accumulator.Reload()


def hparams(accumulator, tag):
    return HParamsPluginData.FromString(accumulator.summary_metadata[tag].plugin_data.content)


def csv_rows(run, folder="csv"):
    with (run.path / folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_hparams_of_a_training_have_its_settings_and_the_metrics_they_led_to(trained, run):
    result = trained(hyperparameters=SETTINGS)
    accumulator = events(run)
    settings = hparams(accumulator, "_hparams_/session_start_info").session_start_info.hparams
    assert settings["training.learning_rate"].number_value == 0.01
    assert settings["name"].string_value == "tiny"
    infos = hparams(accumulator, "_hparams_/experiment").experiment.metric_infos
    assert [info.name.tag for info in infos] == list(METRICS)
    best = [event.value for event in accumulator.Scalars("selection/best_score")]
    assert best == [pytest.approx(result.best_score)], "no invented value stands there while the run trains"
    assert len(accumulator.Scalars("validation/average_precision")) == result.epochs


def test_the_pr_curve_plugin_has_the_curve_of_the_validation_split(trained, run, config):
    trained(figures={"validation/any": drawn}, config=dataclasses.replace(config, figures_every=1))
    accumulator = events(run)
    assert list(accumulator.PluginTagToContent("pr_curves")) == ["validation/precision_recall"]
    curve = tensor_util.make_ndarray(accumulator.Tensors("validation/precision_recall")[-1].tensor_proto)
    true_positives, false_positives, _, false_negatives, precision, recall = curve
    assert recall[0] == 1 and (recall[:-1] >= recall[1:]).all()
    assert set(true_positives + false_negatives) == {true_positives[0]}
    assert precision[0] == pytest.approx(true_positives[0] / (true_positives[0] + false_positives[0]))


def test_epochs_count_from_one_wherever_they_are_logged(trained, run, config):
    trained(config=dataclasses.replace(config, epochs=3, loggers=("tensorboard", "csv")))
    assert {event.value for event in events(run).Scalars("epoch")} == {1.0, 2.0, 3.0}
    assert {float(row["epoch"]) for row in csv_rows(run) if row["epoch"]} == {1.0, 2.0, 3.0}


def test_csv_has_the_losses_of_every_epoch_and_keeps_those_of_before_a_resume(trained, run, config):
    logged = dataclasses.replace(config, epochs=2, loggers=("csv",))
    trained(config=logged, hyperparameters=SETTINGS)
    assert not run.tensorboard.exists()
    losses = [float(row["train/loss"]) for row in csv_rows(run) if row["train/loss"]]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert "learning_rate: 0.01" in (run.path / "csv" / "hparams.yaml").read_text()
    trained(resume=run.last, config=dataclasses.replace(logged, epochs=4))
    assert len([row for row in csv_rows(run) if row["train/loss"]]) == 2
    assert len([row for row in csv_rows(run, "csv-2") if row["train/loss"]]) == 2


def test_no_figure_is_drawn_for_loggers_that_take_none(trained, run, config):
    counts = []
    figures = {"validation/roc": lambda *parts: counts.append(len(parts)) or drawn()}
    for loggers, count in ((("csv",), 0), (("csv", "tensorboard"), 1)):
        trained(config=dataclasses.replace(config, epochs=1, loggers=loggers), figures=figures)
        assert len(counts) == count


def test_a_run_without_loggers_trains(trained, run, config):
    assert trained(config=dataclasses.replace(config, epochs=1, loggers=())).complete
    assert not run.tensorboard.exists()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_logger_whose_package_is_missing_is_one_sentence(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"training\.loggers has {name}, .* pip install 'mmagn\[{name}\]'"):
        check_loggers(("tensorboard", name))
    check_loggers(("tensorboard", "csv"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_wandb_gets_settings_scores_and_figures(trained, run, config, monkeypatch):
    pytest.importorskip("wandb", reason="it comes with the optional extra: pip install 'mmagn[wandb]'")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = trained(
        config=dataclasses.replace(config, epochs=2, loggers=("wandb",), figures_every=1),
        hyperparameters=SETTINGS,
        figures={"validation/any": drawn},
    )
    (board,) = result.loggers
    summary, settings = dict(board.experiment.summary), dict(board.experiment.config)
    board.experiment.finish()
    assert summary["epoch"] == 2 and summary["selection/best_score"] == pytest.approx(result.best_score)
    assert settings["training"]["learning_rate"] == 0.01
    assert list((run.path / "wandb").glob("offline-run-*/files/media/images/validation/any*.png"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
def test_mlflow_gets_settings_scores_and_figures(trained, run, config, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="it comes with the optional extra: pip install 'mmagn[mlflow]'")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = trained(
        config=dataclasses.replace(config, epochs=2, loggers=("mlflow",), figures_every=1),
        hyperparameters=SETTINGS,
        figures={"validation/any": drawn},
    )
    client = mlflow.tracking.MlflowClient(f"sqlite:///{run.mlflow}")
    (stored,) = client.search_runs([client.get_experiment_by_name("mmagn").experiment_id])
    assert stored.data.params["training/learning_rate"] == "0.01"
    assert stored.data.metrics["selection/best_score"] == pytest.approx(result.best_score)
    assert [each.path for each in client.list_artifacts(stored.info.run_id, "validation")]
