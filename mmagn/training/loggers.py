"""Where a run is logged: TensorBoard, CSV, Weights & Biases, MLflow, all through Lightning's loggers."""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from torch.utils.tensorboard.summary import hparams

from mmagn.storage.run_folder import RunFolder
from mmagn.training.config import LoggerName
from mmagn.training.process_group import launched_group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BEST_SCORE = "selection/best_score"
TEST_SCORES = ("average_precision", "roc_auc", "accuracy", "mcc", "brier", "calibration_error")
"""Scores of the test split that are logged once training is complete."""
METRICS = (BEST_SCORE, "validation/average_precision", *(f"test/{name}" for name in TEST_SCORES))
"""Scalars that stand beside the settings in the table of runs of TensorBoard (HPARAMS)."""
PROJECT = "mmagn"
"""Project of Weights & Biases, and experiment of MLflow, that runs belong to."""
_EXTRAS = ("wandb", "mlflow")


def check_loggers(names: Sequence[LoggerName]) -> None:
    """Raise ``ValueError`` where the package of a logger is not installed."""
    for name in names:
        if name in _EXTRAS and importlib.util.find_spec(name) is None:
            hint = f"pip install 'mmagn[{name}]', or leave it out"
            raise ValueError(f"training.loggers has {name}, whose package is not installed: {hint}")


def run_loggers(names: Sequence[LoggerName], run: RunFolder, *, step: int = 0) -> list[Logger]:
    """Return the loggers of a run, named as in ``training.loggers``.

    TensorBoard and CSV are written into its folder, an MLflow store beside it (else ``MLFLOW_TRACKING_URI``); of
    Weights & Biases a resumed run continues the same one. ``step`` is that of the checkpoint that a run is resumed
    from: TensorBoard forgets what a killed run wrote after it.
    """
    check_loggers(names)
    return [_logger(name, run, step) for name in names]


def _logger(name: LoggerName, run: RunFolder, step: int) -> Logger:
    label = run.path.name
    match name:
        case "tensorboard":
            return TensorBoardLogger(
                run.path, name="", version=run.tensorboard.name, default_hp_metric=False, purge_step=step or None
            )
        case "csv":
            return CSVLogger(run.path, name="", version=run.new_csv.name)
        case "wandb":
            return WandbLogger(name=label, project=PROJECT, save_dir=run.path, id=label, resume="allow")
        case _:
            server = os.environ.get("MLFLOW_TRACKING_URI")
            store = None if server else run.mlflow.with_suffix("").as_uri()
            return MLFlowLogger(
                PROJECT, run_name=label, tracking_uri=server or f"sqlite:///{run.mlflow}", artifact_location=store
            )


def log_settings(loggers: Sequence[Logger], settings: Mapping[str, Any]) -> None:
    """Log the settings of a run, which may be nested; in TensorBoard with the names of its ``METRICS``."""
    for logger in loggers:
        if not isinstance(logger, TensorBoardLogger):
            logger.log_hyperparams(dict(settings))
        elif settings and launched_group().leads:
            logger.hparams.update(settings)
            for summary in hparams(_flat(settings), dict.fromkeys(METRICS, 0.0)):  # type: ignore[no-untyped-call]
                logger.experiment._get_file_writer().add_summary(summary)


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted name; lists and nulls as text."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def takes_figures(logger: Logger) -> bool:
    """Whether :func:`log_figure` logs anything there."""
    return isinstance(logger, TensorBoardLogger | WandbLogger | MLFlowLogger)


def log_figure(logger: Logger, tag: str, figure: "Figure", step: int) -> None:
    """Log a figure where the logger takes figures."""
    match logger:
        case TensorBoardLogger():
            logger.experiment.add_figure(tag, figure, step, close=False)
        case WandbLogger():
            logger.log_image(tag, [figure], step)
        case MLFlowLogger():
            logger.experiment.log_figure(logger.run_id, figure, f"{tag}-{step:06d}.png")


def log_pr_curve(
    logger: Logger, tag: str, target: NDArray[np.float64], probability: NDArray[np.float64], step: int
) -> None:
    """Log the precision-recall curve of (object,) targets and probabilities where TensorBoard's plugin draws it."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_pr_curve(tag, target.astype(np.int64), probability, step)


@dataclass(frozen=True, kw_only=True, eq=False)
class Projection:
    """Objects in the space that the head sees, for TensorBoard's projector.

    Attributes
    ----------
    embedding
        (object, embedding).
    columns
        Text of each object by the name of the column.
    sprites
        (object, height, width, 3) pictures from 0 to 255.
    """

    embedding: NDArray[np.float32]
    columns: Mapping[str, Sequence[str]]
    sprites: NDArray[np.uint8]


def log_projection(logger: Logger, tag: str, projection: Projection, step: int) -> None:
    """Log embeddings where TensorBoard's projector shows them."""
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_embedding(
            torch.from_numpy(projection.embedding),
            metadata=[list(row) for row in zip(*projection.columns.values(), strict=True)],
            metadata_header=list(projection.columns),
            label_img=torch.from_numpy(projection.sprites).permute(0, 3, 1, 2).float() / 255,
            tag=tag,
            global_step=step,
        )
