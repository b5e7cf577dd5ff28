"""Whether the fused model uses its branches and costs nothing: probes, swaps, lost features, planted surveys."""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from astropy.table import vstack
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from torch import Tensor

from benchmarks.gpu_rows import WIDTH, Row
from benchmarks.lines import machine
from mmagn.ablation.ablate import ablation_folds
from mmagn.ablation.fits import FoldFits
from mmagn.ablation.inputs import FoldInputs
from mmagn.ablation.networks import FoldNetworks
from mmagn.config.run_config import RunConfig, load_config
from mmagn.evaluation.folds import Fold
from mmagn.evaluation.pooled import Difference, PooledScores, difference, out_of_fold, pooled_scores
from mmagn.evaluation.variants import VARIANTS
from mmagn.models.config import Branch
from mmagn.models.heads import FusionHeads, Logits
from mmagn.records import Floats
from mmagn.runs.sample import Sample, labelled_sample
from mmagn.tensors.sources import BatchSource, PairTensors

QUESTIONS = 8
"""Questions that the default ablation corrects its p values for."""
LEVEL = 0.05
"""Largest corrected p value that counts as significant."""
COST_EPOCHS = 3
LOST = 0.2
SWAPS = 5
LEARNED = 0.6
"""Average precision below which neither model has learned a planted mark, whose own is above 0.8."""
PLANTED_SCORE = 0.15
"""Part of the planted positives that show nothing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Survey:
    """Fits of an embedded survey, made when they are needed.

    Attributes
    ----------
    config, fits, folds
        Settings, cache of fits, and folds.
    """

    config: RunConfig
    fits: FoldFits
    folds: Sequence[Fold]

    @classmethod
    def of(cls, folder: Path, *, seed: int, pairs: int, repeats: int, training: int | None = None) -> "Survey":
        """Survey of a seed, with folds and networks of the same seed or of another one."""
        config = load_config("ablation.yaml")
        data = replace(
            config.data, cache_dir=str(folder), simulate=replace(config.data.simulate, seed=seed, pairs=pairs)
        )
        ablation = replace(config.ablation, repeats=repeats, fits_dir=str(folder / f"fits-{seed}-{pairs}"))
        config = replace(config, seed=seed if training is None else training, data=data, ablation=ablation)
        sample = labelled_sample(config)
        return cls(config=config, fits=FoldFits(config, sample), folds=ablation_folds(config, sample))

    @property
    def target(self) -> Floats:
        """(object,) 1 positive, 0 negative."""
        return self.fits.sample.target

    def pooled(self, name: str) -> PooledScores:
        """Scores of a model, its test objects of all folds together."""
        variant = VARIANTS[name]
        self.fits.make([variant], self.folds, self.config.ablation.workers)
        table = vstack([self.fits.table(variant, fold) for fold in self.folds])
        return pooled_scores(out_of_fold(table, self.fits.sample.object_id, self.target), self.config.evaluation)

    def compared(self, better: str, base: str) -> Difference:
        """Difference of the average precision of two models."""
        return difference(self.pooled(better), self.pooled(base), "average_precision", self.config.evaluation)

    def networks(self, name: str) -> Iterator["FoldNetwork"]:
        """Heads and head inputs of a model on every fold."""
        self.pooled(name)
        for fold in self.folds:
            yield FoldNetwork(fits=self.fits, name=name, fold=fold)


@dataclass(eq=False)
class FoldNetwork:
    """Heads of the network of one fold, and what they make of its test objects."""

    fits: FoldFits
    name: str
    fold: Fold

    @cached_property
    def embedding(self) -> Tensor:
        """(object, embedding) head inputs of all objects."""
        return torch.from_numpy(self.fits.embedding(VARIANTS[self.name], self.fold))

    @cached_property
    def heads(self) -> FusionHeads:
        """Heads on the CPU."""
        return self.fits.heads(VARIANTS[self.name], self.fold).cpu().eval()

    def logits(self, changed: dict[Branch, Tensor] | None = None, lost: str = "") -> Logits:
        """Logits of the test objects, with some embeddings replaced, or without a modality."""
        parts = self.heads.split(self.embedding[torch.from_numpy(self.fold.test)])
        parts |= changed or {}
        embedding = torch.cat([part * (name != lost) for name, part in parts.items()], dim=1)
        present = torch.tensor([name != lost for name in parts]).expand(len(embedding), -1)
        with torch.no_grad():
            return self.heads(embedding, present)  # type: ignore[no-any-return]

    def part(self, name: Branch, rows: NDArray[np.int64]) -> Tensor:
        """(row, width) embedding of a modality."""
        return self.heads.split(self.embedding[torch.from_numpy(rows)])[name]


class PlantedInputs(FoldInputs):
    """Inputs in which a mark that no feature knows decides the class: in the image, or in the spectrum."""

    def __init__(self, config: RunConfig, sample: Sample, modality: str, marked: NDArray[np.bool_]) -> None:
        super().__init__(config, sample)
        self.modality, self.marked = modality, marked

    def tensors(self, config: RunConfig, fold: Fold) -> BatchSource:
        """Network input with the mark."""
        source = super().tensors(config, fold)
        batch = source.gathered(torch.arange(len(source)))
        values = batch.get(self.modality)
        if values is not None:
            marked = torch.from_numpy(np.flatnonzero(self.marked)).to(values.device)
            if self.modality == "image":
                values[marked, :, 16:32, 16:32] += 2.0
            else:
                values[marked, 0, 300:306] += 2.0
        return PairTensors(
            image=batch.get("image"),
            spectrum=batch.get("spectrum"),
            features=batch.get("features"),
            target=batch["target"],
            softening=source.softening,
        )


def planted_inputs(config: RunConfig, sample: Sample, modality: str, seed: int) -> PlantedInputs:
    """Return the inputs of a sample whose class is drawn by lot and marked in one modality."""
    rng = np.random.default_rng((seed, len(modality)))
    target = (rng.random(len(sample.target)) < 0.3).astype(np.float64)
    marked = (target == 1) & (rng.random(len(target)) > PLANTED_SCORE) | (rng.random(len(target)) < 0.02)
    return PlantedInputs(config, replace(sample, target=target), modality, marked)


def planted(survey: Survey, folder: Path, modality: str, seed: int) -> tuple[float, float]:
    """Average precision of the fused model and of the single modality where that one alone decides."""
    ablation = replace(survey.config.ablation, repeats=1, workers=1)  # worker processes would fit without the mark
    config = replace(survey.config, ablation=ablation)
    inputs = planted_inputs(config, survey.fits.sample, modality, seed)
    fits = FoldFits(config, inputs.sample, folder / f"planted-{modality}-{seed}")
    fits.inputs, fits.networks = inputs, FoldNetworks(inputs)
    own = Survey(config=config, fits=fits, folds=ablation_folds(config, inputs.sample))
    fused, alone = (own.pooled(name).value["average_precision"] for name in ("fused", modality))
    return float(fused), float(alone)


def main_rows(survey: Survey) -> Iterator[Row]:
    """All lines and blanked lines on the survey itself."""
    names = ("handcrafted", "spectrum", "image", "fused", "masked-handcrafted", "masked-spectrum", "masked-fused")
    scores = {name: float(survey.pooled(name).value["average_precision"]) for name in names}
    for name, value in scores.items():
        yield Row(what=f"average precision of {name}", value=value, unit="")
    best = max(("handcrafted", "spectrum", "image"), key=scores.__getitem__)
    cost = survey.compared("fused", best)
    yield Row(what=f"fused - {best}, all lines", value=cost.value or 0.0, unit="", goal=-0.005, note=_interval(cost))
    gain = survey.compared("masked-fused", "masked-handcrafted")
    corrected = min(1.0, QUESTIONS * (gain.p_value or 1.0))
    yield Row(
        what="masked-fused - masked-handcrafted", value=gain.value or 0.0, unit="", goal=0.0, note=_interval(gain)
    )
    yield Row(what="  its p value after correction for 8 questions", value=corrected, unit="", goal=LEVEL, most=True)
    yield from _probe_rows(survey)


def _probe_rows(survey: Survey) -> Iterator[Row]:
    """What the embeddings of the fused model know, and how its logit depends on them."""
    rng, target = np.random.default_rng(0), survey.target
    modalities: tuple[Branch, ...] = ("image", "spectrum", "features")
    for name in modalities[:2]:
        probe = [_probe(network, name, target) for network in survey.networks("fused")]
        alone = [_score(target, network, network.logits().parts[name]) for network in survey.networks("fused")]
        single = [_score(target, network, network.logits().fused) for network in survey.networks(name)]
        share = float(np.mean(probe) / np.mean(single))
        yield Row(what=f"probe on the {name} embedding relative to the {name} model", value=share, unit="", goal=0.95)
        yield Row(
            what=f"  the auxiliary head of the {name}, likewise", value=float(np.mean(alone) / np.mean(single)), unit=""
        )
    for model in ("fused", "masked-fused"):
        for name in modalities:
            shares = [_swapped(network, name, rng) for network in survey.networks(model)]
            goal = 0.1 if model == "masked-fused" and name != "features" else None
            yield Row(
                what=f"share of the {name} in {model} (swap test)", value=float(np.mean(shares)), unit="", goal=goal
            )
    whole, few = zip(*(_lost(network, target, rng) for network in survey.networks("fused")), strict=True)
    yield Row(what="average precision, features of 20 % lost", value=float(np.mean(whole)), unit="", goal=0.945)
    fused, spectrum = np.mean(few, axis=0)
    yield Row(what="  without features, fused - spectrum alone", value=float(fused - spectrum), unit="", goal=0.0)


def _probe(network: FoldNetwork, name: Branch, target: Floats) -> float:
    """Average precision of a linear probe on an embedding, fitted to the training rows."""
    fold = network.fold
    train, test = network.part(name, fold.train).numpy(), network.part(name, fold.test).numpy()
    fitted = LogisticRegression(max_iter=1000, class_weight="balanced").fit(train, target[fold.train])
    return float(average_precision_score(target[fold.test], fitted.decision_function(test)))


def _score(target: Floats, network: FoldNetwork, logits: Tensor) -> float:
    return float(average_precision_score(target[network.fold.test], logits.numpy()))


def _swapped(network: FoldNetwork, name: Branch, rng: np.random.Generator) -> float:
    """Root mean square change of the fused logit relative to its spread where a modality is another galaxy's."""
    before, part = network.logits().fused.numpy(), network.part(name, network.fold.test)
    changes = []
    for _ in range(SWAPS):
        after = network.logits({name: part[torch.from_numpy(rng.permutation(len(part)))]}).fused.numpy()
        changes.append(np.sqrt(np.mean(np.square(after - before))) / before.std())
    return float(np.mean(changes))


def _lost(network: FoldNetwork, target: Floats, rng: np.random.Generator) -> tuple[float, tuple[float, float]]:
    """Scores where a fifth of the objects have no features; and where none has any: fused, spectrum alone."""
    whole, without = network.logits().fused.numpy(), network.logits(lost="features").fused.numpy()
    truth = target[network.fold.test]
    mixed = [average_precision_score(truth, np.where(rng.random(len(truth)) < LOST, without, whole)) for _ in range(20)]
    spectrum = network.logits().parts["spectrum"].numpy()
    few = float(average_precision_score(truth, without)), float(average_precision_score(truth, spectrum))
    return float(np.mean(mixed)), few


def _interval(answer: Difference) -> str:
    low, high = (float("nan") if each is None else each for each in (answer.low, answer.high))
    return f"[{low:+.3f}, {high:+.3f}]"


def verdict_row(folder: Path, trainings: int, prefix: str, **survey_of: int) -> Row:
    """How often whole ablations of one survey, with other folds and networks, give the same answer to a question."""
    answers: Counter[str] = Counter()
    for number in range(trainings):
        gain = Survey.of(folder, **survey_of, training=1000 * (number + 1)).compared(
            f"{prefix}fused", f"{prefix}handcrafted"
        )
        significant = QUESTIONS * (gain.p_value or 1.0) < LEVEL
        answers["not significant" if not significant else "better" if (gain.value or 0.0) > 0 else "worse"] += 1
        print(f"  {prefix}fused - {prefix}handcrafted: {gain.value or 0.0:+.3f} {_interval(gain)}", flush=True)
    note = ", ".join(f"{answer} {count}" for answer, count in answers.most_common())
    what = f"{prefix}fused - {prefix}handcrafted: share of {trainings} ablations with the same verdict"
    return Row(what=what, value=answers.most_common(1)[0][1] / trainings, unit="", goal=0.9, note=note)


def cost_row(survey: Survey) -> Row:
    """CPU time of a fit of the fused network relative to those of its image and its spectrum branch alone."""
    training = replace(survey.config.training, epochs=COST_EPOCHS, head_epochs=COST_EPOCHS)
    networks = FoldNetworks(FoldInputs(replace(survey.config, training=training), survey.fits.sample))
    seconds = {}
    for name in ("image", "spectrum", "fused"):
        start_s = time.process_time()
        networks.fitted(VARIANTS[name], survey.folds[:1])
        seconds[name] = time.process_time() - start_s
    note = ", ".join(f"{name} {each / COST_EPOCHS:.2f} s" for name, each in seconds.items())
    ratio = seconds["fused"] / (seconds["image"] + seconds["spectrum"])
    what = f"CPU time of {COST_EPOCHS} epochs, fused relative to its branches alone"
    return Row(what=what, value=ratio, unit="", goal=1.3, most=True, note=note)


def truth_benchmark(*, large: int, trainings: int, minutes: float, out: str, only: str, **survey_of: int) -> None:
    """Print each row when it is known, and exit with 1 where a goal is missed.

    ``survey_of`` are the seed, pairs and repeats of the survey that most rows are about.
    """
    start_s, folder, rows = time.monotonic(), Path(out), []
    seed = survey_of["seed"]
    small: list[Survey] = []

    def survey() -> Survey:
        small[:] = small or [Survey.of(folder, **survey_of)]
        return small[0]

    def planted_rows() -> Iterator[Row]:
        for modality in ("image", "spectrum"):
            fused, alone = planted(survey(), folder, modality, seed)
            what = f"planted: the {modality} alone decides ({alone:.3f}), fused - {modality}"
            learned = max(fused, alone) > LEARNED
            note = "" if learned else "neither has learned the mark"
            yield Row(what=what, value=fused - alone if learned else float("nan"), unit="", goal=-0.02, note=note)

    def large_rows() -> Iterator[Row]:
        gain = Survey.of(folder, seed=seed, pairs=large, repeats=1).compared("masked-fused", "masked-handcrafted")
        what = f"{large} pairs: masked-fused - masked-handcrafted"
        yield Row(what=what, value=gain.value or 0.0, unit="", goal=0.084, note=_interval(gain))

    parts: dict[str, Callable[[], Iterable[Row]]] = {
        "cost": lambda: [cost_row(survey())],
        "main": lambda: main_rows(survey()),
        "planted": planted_rows,
        "large": large_rows,
        "verdict": lambda: [verdict_row(folder, trainings, "", **survey_of)],
        "masked-verdict": lambda: [verdict_row(folder, trainings, "masked-", **survey_of)],
    }
    names = only.split(",") if only else [*parts]
    if unknown := [name for name in names if name not in parts]:
        raise SystemExit(f"--only {', '.join(unknown)}: there is no such part; allowed: {', '.join(parts)}")
    logging.getLogger("mmagn").setLevel(logging.WARNING)
    print(f"{machine()}; survey seed {seed}")
    print(f"{'what':<{WIDTH}}{'goal':>12}  {'measured':>12}")
    folder.mkdir(parents=True, exist_ok=True)
    for part in [part for name, part in parts.items() if name in names]:
        if time.monotonic() - start_s > 60 * minutes:
            sys.stdout.write("the time was up before the rest\n")
            break
        for row in part():
            print(row, flush=True)
            rows.append({**vars(row), "missed": row.missed})
            (folder / "truth.json").write_text(
                json.dumps({"seed": seed, "rows": rows}, indent=2) + "\n", encoding="utf-8"
            )
        print(f"  ({time.monotonic() - start_s:.0f} s so far)", flush=True)
    if missed := [str(row["what"]).strip() for row in rows if row["missed"]]:
        print(f"missed: {'; '.join(missed)}")
        raise SystemExit(1)
