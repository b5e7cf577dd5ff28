"""What each process of a process group test does: a small training, its gradients and results written down.

81 training objects in batches of 12 leave 9 in the last batch of an epoch, which two processes cannot halve, and 29
validation objects are 15 for one process and 14 for the other.
"""

import json
import logging
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmagn.storage.run_folder import RunFolder
from mmagn.tensors.config import AugmentConfig
from mmagn.tensors.datamodule import BatchPlan, PairDataModule
from mmagn.tensors.sources import PairTensors
from mmagn.training.config import TrainingConfig
from mmagn.training.fit import RunRecord, fit
from mmagn.training.module import AgnModule
from mmagn.training.process_group import joined_group

TRAIN, VALIDATION, BATCH = 81, 29, 12


class Witness(AgnModule):
    """Remembers the gradient of every step before it is clipped."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.gradients: list[dict[str, Tensor]] = []

    def manual_backward(self, *arguments: object, **named: object) -> None:
        super().manual_backward(*arguments, **named)
        gradients = {name: value.grad.clone() for name, value in self.named_parameters() if value.grad is not None}
        self.gradients.append(gradients)


class Network(nn.Module):
    """Two layers and one that no batch ever reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 1))
        self.unused = nn.Linear(3, 3)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        logits: Tensor = self.layers(batch["features"]).squeeze(1)
        return logits


def data() -> PairDataModule:
    drawn = torch.Generator().manual_seed(1)
    count = TRAIN + VALIDATION
    features = torch.randn((count, 10), generator=drawn)
    target = (features[:, 0] + 0.5 * torch.randn(count, generator=drawn) > 0.8).float()
    tensors = PairTensors(image=None, spectrum=None, features=features, target=target)
    split = np.array(["train"] * TRAIN + ["validation"] * VALIDATION)
    return PairDataModule(tensors, split, BatchPlan(batch_size=BATCH, augment=AugmentConfig(), seed=4))


def lines_logged(folder: str) -> int:
    """Number of lines that this process logs."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger("mmagn")
    logger.addHandler(handler)
    logger.getChild("anything").info("training in %s", folder)
    logger.removeHandler(handler)
    return len(records)


def main(out: Path) -> None:
    logging.basicConfig(level=logging.INFO)
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    config = TrainingConfig(epochs=2, batch_size=BATCH, learning_rate=0.01, device="cpu", log_every=3)
    with joined_group(config) as group:
        folder = group.broadcast(f"chosen by {group.rank}")
        received = {"folder": folder, "lines": lines_logged(folder)}
        run = RunFolder(out / "run")
        if group.leads:
            run.path.mkdir()
            run.figures.mkdir()
        torch.manual_seed(2 + group.rank)  # the leading process gives its weights to the others
        module = Witness(Network(), config, pos_weight=3.0, seed=4)
        result = fit(module, data(), run, RunRecord())
        found = {name: float(value) for name, value in module.trainer.callback_metrics.items()}
        found |= {"best_score": result.best_score, "best_epoch": result.best_epoch, "steps": result.steps}
    rank = os.environ["RANK"]
    torch.save(module.gradients, out / f"gradients-{rank}.pt")
    (out / f"result-{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    (out / f"received-{rank}.json").write_text(json.dumps(received), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
