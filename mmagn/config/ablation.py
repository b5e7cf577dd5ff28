"""Settings of an ablation."""

from dataclasses import dataclass
from typing import Literal

from mmagn.evaluation.bootstrap import METRICS
from mmagn.evaluation.variants import VARIANTS, question
from mmagn.storage.settings import Settings, setting

_NETWORKS = tuple(name for name, variant in VARIANTS.items() if variant.kind == "network")
_WITHOUT_VECTORS = tuple(name for name, variant in VARIANTS.items() if not variant.needs_vectors)
_QUESTIONS = (
    "fused - handcrafted",
    "spectrum - handcrafted",
    "fused - logistic",
    "masked-fused - masked-handcrafted",
    "masked-image-spectrum - masked-spectrum",
    "masked-spectrum - spectrum",
    "masked-spectrum - redshift-only",
    "image - redshift-only",
)


@dataclass(frozen=True, kw_only=True)
class AblationConfig(Settings):
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
        Names of the models, in the order of the tables; those with ``embedding`` in their name take the vectors of
        ``data.embeddings``.
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
        Folder of finished fits, which are never repeated; empty is ``fits`` in ``data.cache_dir``. Fits are
        distinguished by their data and settings, not by the code: delete the folder after changing a model or the
        training.
    """

    SECTION = "ablation"
    scheme: Literal["folds", "leave-one-cell-out"] = setting("folds", "ablation")
    folds: int = setting(5, "ablation", at_least=2, needs=("ablation.scheme", "folds"))
    repeats: int = setting(3, "ablation", at_least=1)
    variants: tuple[str, ...] = setting(
        _WITHOUT_VECTORS, "ablation", choices=tuple(VARIANTS), one_or_more=True, each_once=True
    )
    questions: tuple[str, ...] = setting(_QUESTIONS, "ablation", each_once=True)
    metric: str = setting("average_precision", "ablation", choices=tuple(METRICS))
    features_epochs: int = setting(100, "ablation", at_least=1)
    features_patience: int = setting(20, "ablation", at_least=1)
    workers: int = setting(2, "nothing", at_least=1)
    members: tuple[str, ...] = setting(("fused",), "ablation", choices=_NETWORKS, each_once=True)
    fits_dir: str = setting("", "nothing", path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.questions:
            compared = question(text)
            for variant in (compared.better, compared.base):
                if variant.name not in self.variants:
                    raise ValueError(
                        f"ablation.questions has {text!r}, but ablation.variants has no {variant.name}; "
                        "drop the question or add the model"
                    )
