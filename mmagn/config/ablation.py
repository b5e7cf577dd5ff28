"""Settings of an ablation."""

from dataclasses import dataclass
from typing import Literal

from mmagn.evaluation.bootstrap import METRICS
from mmagn.evaluation.variants import VARIANTS, question


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """Which models are compared, on which folds.

    Attributes
    ----------
    scheme
        ``folds``: stratified folds of groups of sky (``splits.nside``); ``leave-one-cell-out``: each HEALPix cell of
        NSIDE 16 is tested by models that never saw it.
    folds
        Parts of the sample; not used by ``leave-one-cell-out``.
    repeats
        How often everything is repeated with other folds and other weights; repeat r has the seed ``seed`` + r.
    variants
        Names of the models, in the order of the tables.
    questions
        Pairs of models 'a - b' that are compared; all p values are corrected for their number.
    metric
        Score that the questions are about.
    features_epochs
        Largest number of epochs of a network on features alone, in place of ``training.epochs``: its steps are few and
        cheap.
    features_patience
        Its patience in epochs, in place of ``training.patience``.
    workers
        Processes that fit at the same time, one thread each; what is fitted does not depend on it.
    members
        Network models whose fits are kept in the run folder, for ``scripts/predict.py``; those that are not among the
        variants are left out.
    fits_dir
        Folder of finished fits, which are never repeated; empty is ``fits`` in ``data.cache_dir``. Fits are told apart
        by their data and settings, not by the code: delete the folder after changing a model or the training.
    """

    scheme: Literal["folds", "leave-one-cell-out"] = "folds"
    folds: int = 5
    repeats: int = 3
    variants: tuple[str, ...] = tuple(VARIANTS)
    questions: tuple[str, ...] = (
        "fused - handcrafted",
        "spectrum - handcrafted",
        "fused - logistic",
        "masked-fused - masked-handcrafted",
        "masked-image-spectrum - masked-spectrum",
        "masked-spectrum - spectrum",
        "masked-spectrum - redshift-only",
        "image - redshift-only",
    )
    metric: str = "average_precision"
    features_epochs: int = 100
    features_patience: int = 20
    workers: int = 2
    members: tuple[str, ...] = ("fused",)
    fits_dir: str = ""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ValueError(f"ablation.folds is {self.folds}; allowed: 2 or more")
        for name in ("repeats", "features_epochs", "features_patience", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"ablation.{name} is {getattr(self, name)}; allowed: 1 or more")
        if unknown := [name for name in self.variants if name not in VARIANTS]:
            raise ValueError(f"ablation.variants has {unknown[0]}; allowed: {', '.join(VARIANTS)}")
        if not self.variants or len(set(self.variants)) != len(self.variants):
            raise ValueError(f"ablation.variants is {self.variants}; allowed: one or more models, each once")
        networks = [name for name, variant in VARIANTS.items() if variant.kind == "network"]
        if wrong := [name for name in self.members if name not in networks]:
            raise ValueError(f"ablation.members has {wrong[0]}; allowed: {', '.join(networks)}")
        for text in self.questions:
            asked = question(text)
            for variant in (asked.better, asked.base):
                if variant.name not in self.variants:
                    raise ValueError(
                        f"ablation.questions has {text!r}, but ablation.variants has no {variant.name}; "
                        "drop the question or add the model"
                    )
        if self.metric not in METRICS:
            raise ValueError(f"ablation.metric is {self.metric}; allowed: {', '.join(METRICS)}")
