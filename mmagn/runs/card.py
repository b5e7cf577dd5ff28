"""The card of a trained model: what it decides, how it was trained, what its scores mean, where it does not apply."""

from collections.abc import Mapping
from typing import Any

import yaml

from mmagn.config.run_config import RunConfig, changed_settings, load_config
from mmagn.evaluation.scorecard import Score, Scores
from mmagn.matching.card import CREDITS
from mmagn.reporting.page.files import read_json
from mmagn.reporting.page.scores import score_name
from mmagn.reporting.page.training import inputs_of
from mmagn.reporting.page.verdict import small_sample_warning, training_verdict
from mmagn.storage.markdown import markdown_table
from mmagn.storage.run_folder import RunFolder

HEADLINE = ("average_precision", "roc_auc", "accuracy", "mcc", "brier")
"""Scores in the head of the card, as a hub lists them."""
LEVELS = {
    "L0": (
        "The model sees these lines, or what they are made of, so that it measures its label again: a high score is no "
        "evidence that it finds AGN beyond what their lines state."
    ),
    "L2": "The diagnostic lines are hidden from the model: its score shows what the rest of its input contains.",
    "L3": "The model sees the image alone, no line: its score shows what pixels contain.",
    "L4": "No input contains what the labels are made of: its score shows AGN that optical lines do not define.",
}
"""What a score shows on each rung of the leakage ladder."""
LIMITS = """\
- The probabilities hold for galaxies like those of the training sample, at its prevalence; `prevalence` of `predict`
  corrects for another one.
- The classifier does not apply to quasars, stars and broad-line objects: `agn` is null there, and `reason` states why.
- `unlike_training` marks galaxies that lie outside what the training sample covers.
- Galaxies without a label, such as those with lines below the S/N cut, enter no score.
"""


def card_text(run: RunFolder, repository: str) -> str:
    """Return the card of a training run as Markdown with the YAML head that a hub reads; ``repository`` is ORG/NAME."""
    recorded, config = read_json(run.scores), load_config(run.config)
    scores, split = Scores.from_dict(recorded), recorded["split"]
    ceilings = {name: Score.from_dict(each) for name, each in recorded.get("noise_ceiling", {}).items()}
    verdict = training_verdict(
        scores,
        ceilings.get("average_precision", Score()),
        split,
        inputs_of(run, config),
        simulated=recorded["simulated"],
    )
    vectors = "embedding" in config.models.branches
    argument = ', embeddings="VECTORS.parquet"' if vectors else ""
    place = f"--data.source store --data.root STORE{' --data.embeddings VECTORS.parquet' if vectors else ''}"
    warning = small_sample_warning(scores.objects, scores.positives, f"{split} split")
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(_head(repository, scores, recorded, config), sort_keys=False)}---\n",
            f"# {repository}\n",
            "P(AGN) of a galaxy from an HSC image, a spectrum of SDSS or DESI or both, with its uncertainty. "
            f"The model sees: {', '.join(config.models.branches)}.\n",
            *([f"**{warning}**\n"] if warning else []),
            *(f"{sentence}\n" for sentence in verdict),
            "## Use\n",
            f'```python\nimport mmagn\n\ntable = mmagn.load("{repository}"{argument}).predict(galaxies)\n```\n',
            f"    mmagn predict --run hf://{repository} {place} --out scores.votable\n",
            "## Data\n",
            *_data(recorded, scores, config),
            "## Scores\n",
            *_scores(scores, ceilings, split),
            "## What a high score shows\n",
            f"{_leakage(recorded)}\n",
            "## Limits\n",
            LIMITS,
            "## How it was trained\n",
            *_training(read_json(run.provenance), config),
            "## Licence and credits\n",
            "Code and weights: BSD-3-Clause.\n" + ("" if recorded["simulated"] else f"\n{CREDITS}"),
        ]
    )


def _head(repository: str, scores: Scores, recorded: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    metrics = [
        {"type": name, "name": score_name(name), "value": round(scores[name].value or 0.0, 4)}
        for name in HEADLINE
        if scores[name].value is not None
    ]
    data = {"type": config.data.source, "name": _survey(recorded), "split": recorded["split"]}
    result = {"task": {"type": "other", "name": "AGN or not"}, "dataset": data, "metrics": metrics}
    return {
        "license": "bsd-3-clause",
        "library_name": "mmagn",
        "tags": ["astronomy", "galaxies", "agn", "multimodal", "sdss", "hsc"],
        "model-index": [{"name": repository.partition("/")[2], "results": [result]}],
    }


def _survey(recorded: Mapping[str, Any]) -> str:
    """Return whose spectra and images the pairs are, as the surveys of the spectra state."""
    if recorded["simulated"]:
        return "simulated survey of mmagn"
    names = {"SDSS" if name in ("boss", "eboss") else name.upper() for name in recorded["surveys"]}
    return f"{', '.join(sorted(names))} spectra and HSC images".lstrip()


def _data(recorded: Mapping[str, Any], scores: Scores, config: RunConfig) -> list[str]:
    classes, splits = recorded["classes"], recorded["splits"]
    prevalence = "undefined" if scores.prevalence is None else f"{scores.prevalence:.3f}"
    return [
        f"{_survey(recorded)[:1].upper()}{_survey(recorded)[1:]} (`data.source` {config.data.source}): "
        f"{sum(classes.values()):,} pairs matched within {config.matching.radius_arcsec:g} arcsec, of which "
        f"{sum(splits.values()):,} have a label. Splits are by cells of sky. Prevalence of AGN in the "
        f"{recorded['split']} split: {prevalence}.\n",
        markdown_table(("split", "galaxies"), {name: f"{count:,}" for name, count in splits.items()}),
        markdown_table(("class", "pairs"), {name: f"{count:,}" for name, count in classes.items()}),
        markdown_table(("no label", "pairs"), {name: f"{count:,}" for name, count in recorded["unclassified"].items()}),
    ]


def _scores(scores: Scores, ceilings: Mapping[str, Score], split: str) -> list[str]:
    rows = [
        (score_name(name), score, _plain(scores.all_negative.get(name)), ceilings.get(name, ""))
        for name, score in scores.scores.items()
    ]
    return [
        f"{scores.objects:,} galaxies of the {split} split, {scores.positives:,} of them AGN; {scores.confidence:.0%} "
        f"intervals from {scores.bootstrap_draws:,} bootstrap draws; threshold {scores.threshold:.3f}. The noise "
        "ceiling is the score of an oracle that knows P(AGN) of every object but not the noise of its label.\n",
        markdown_table(("score", "value", "all negative", "noise ceiling"), rows),
    ]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _leakage(recorded: Mapping[str, Any]) -> str:
    """Return what the scores are evidence of, from the rung of the leakage ladder."""
    labels = recorded.get("labels", {})
    if labels.get("source") == "catalogue":
        source = f"Labels are those of the catalogue {labels['catalogue']}, made of {labels['made_of']} data."
    else:
        source = "Labels are computed from emission lines (BPT diagram): Seyfert and composite are AGN."
    return f"{source} {LEVELS[recorded['level']]}"


def _training(provenance: Mapping[str, Any], config: RunConfig) -> list[str]:
    settings = {name: f"`{value}`" for name, value in changed_settings(config).items()}
    versions = {name: str(each) for name, each in provenance.get("versions", {}).items()}
    return [
        f"Started {provenance.get('started', 'at an unknown time')}, commit `{provenance.get('commit', 'unknown')}`.\n",
        markdown_table(("setting that differs from its default", "value"), settings),
        markdown_table(("package", "version"), versions),
    ]
