"""Parts of the report made of recorded numbers: tiles, scores with intervals, the sample."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmagn.evaluation.parts import BAYES_FACTOR
from mmagn.evaluation.scorecard import Score, Scores, number_text
from mmagn.reporting.figures.style import CLASS_NAMES, score_text
from mmagn.reporting.page.html import Chart, Section, TableView, Tile

Numbers = Mapping[str, Any]

TILE_METRICS = ("average_precision", "accuracy", "mcc", "calibration_error")
TEXT_BRIER = "The Brier score is the mean square of P(AGN) minus the label, 1 or 0."
TEXT_CEILING = (
    "The noise ceiling is the score of an oracle that knows the soft label P(AGN) of every object but not the noise of "
    "its label. A model that sees the lines of the very spectrum that the label was measured in can score above it."
)
TEXT_SHARE = (
    "Each galaxy is given an input of another one, all else as it is. The share is the root mean square change of the "
    "logit over the spread of the logits: 0 where the model ignores the input, about 1.4 where nothing else matters. "
    "Average precision alone is that of a head which sees this input only."
)
TEXT_DISAGREE = (
    "Modalities disagree where one alone raises the odds of an AGN over those of the prevalence by a factor of "
    f"{BAYES_FACTOR:.1f} or more and another lowers them by as much."
)


def score_name(metric: str) -> str:
    """Return the name of a score in words, and whether less of it is better."""
    lower = metric in ("brier", "brier_reliability", "log_loss", "calibration_error")
    return score_text(metric) + (" (lower is better)" if lower else "")


def numbers_text(numbers: Numbers, *, sign: bool = False) -> str:
    """Return ``value``, ``low`` and ``high`` of a mapping as :func:`number_text`."""
    return number_text(numbers.get("value"), numbers.get("low"), numbers.get("high"), sign=sign)


def number_range(low: float | None, high: float | None) -> str:
    """Return an interval as text, "" where it is undefined."""
    return "" if low is None or high is None else f"[{low:.3f}, {high:.3f}]"


def metric_text(row: Numbers, metric: str) -> str:
    """Return a score of a flat row, such as those of ``ablation.json``, as :func:`number_text`."""
    return number_text(row.get(metric), row.get(f"{metric}_low"), row.get(f"{metric}_high"))


def counts_table(caption: str, head: Sequence[str], counts: Mapping[str, int]) -> TableView:
    """Return a table with a row for each count."""
    return TableView(caption=caption, head=head, rows=[[name, f"{count:,}"] for name, count in counts.items()])


def score_tiles(scores: Scores, ceilings: Mapping[str, Score], split: str) -> list[Tile]:
    """Return the numbers at the top of the page of a training."""
    tiles = []
    for name in TILE_METRICS:
        score, baseline, ceiling = scores[name], scores.all_negative.get(name), ceilings.get(name, Score())
        notes = [f"{scores.confidence:.0%}: {score.low:.3f} to {score.high:.3f}"] if score.low is not None else []
        if name in ("average_precision", "accuracy") and baseline is not None:
            notes.append(f"all negative {baseline:.3f}" if name == "accuracy" else f"guessing {baseline:.3f}")
        if name != "calibration_error" and ceiling.value is not None:
            notes.append(f"noise ceiling {ceiling.value:.3f}")
        value = "undefined" if score.value is None else f"{score.value:.3f}"
        tiles.append(Tile(name=score_text(name), value=value, note=", ".join(notes)))
    note = f"{scores.positives:,} AGN"
    if scores.prevalence is not None:
        note += f", prevalence {scores.prevalence:.3f}"
    return [*tiles, Tile(name=f"galaxies of the {split} split", value=f"{scores.objects:,}", note=note)]


def scores_section(recorded: Numbers, scores: Scores, charts: Sequence[Chart]) -> Section:
    """Return all scores with their intervals beside the all-negative baseline and the noise ceiling."""
    ceilings, clean = recorded.get("noise_ceiling", {}), recorded.get("clean")
    rows = []
    for name, score in scores.scores.items():
        cells = [score_name(name), str(score), number_text(scores.all_negative.get(name))]
        cells += [numbers_text(ceilings.get(name, {})), number_range(score.exact_low, score.exact_high)]
        if clean is not None:
            cells.append(str(Score.from_dict(clean["scores"][name])))
        rows.append(cells)
    head = ["score", f"value [{scores.confidence:.0%} interval]", "all negative", "noise ceiling", "exact binomial"]
    text = [probability_text(recorded)]
    if any(score.low is not None for score in scores.scores.values()):
        draws = f"{scores.bootstrap_draws:,} stratified bootstrap draws of the galaxies"
        text.append(f"Intervals come from {draws}; those of precision, recall and accuracy are exact binomial as well.")
    if ceilings:
        text.append(TEXT_CEILING)
    if clean is not None:
        head.append(f"clean labels ({clean['objects']:,})")
        text.append(
            f"Labels are clean where their own class has a probability above {clean['probability']:g} when the four "
            "line fluxes are drawn anew within their errors."
        )
    table = TableView(caption="All scores", head=head, rows=rows)
    return Section(name="scores", title="Scores", text=text, charts=charts, tables=[table])


def probability_text(recorded: Numbers) -> str:
    """Return what P(AGN) is the probability of, under the labels of the run."""
    by_bpt = recorded.get("labels", {}).get("source", "BPT") == "BPT"
    meaning = "Seyfert or composite on the BPT diagram" if by_bpt else "positive in the catalogue of labels"
    return f"P(AGN) is the calibrated probability that the label of a galaxy is AGN, which is {meaning}. {TEXT_BRIER}"


def inputs_section(
    inputs_of: Mapping[str, Sequence[Numbers]], disagreeing: int | None = None, objects: int = 0
) -> Section | None:
    """Return what each input of some models contributes; None without any.

    Recorded inputs are by model, whose name is left out where it is ""; ``disagreeing`` are the objects whose
    modalities disagree, None where they were not counted.
    """
    rows = [
        [
            *([model] if model else []),
            each["name"],
            number_text(each.get("share")),
            numbers_text(each),
            number_text(each.get("average_precision_alone")),
        ]
        for model, inputs in inputs_of.items()
        for each in inputs
    ]
    if not rows:
        return None
    head = ["input", "share of the logit", "loss of average precision", "average precision alone"]
    text = [TEXT_SHARE]
    if disagreeing is not None:
        text.append(f"{disagreeing:,} of {objects:,} galaxies have modalities that disagree. {TEXT_DISAGREE}")
    table = TableView(caption="Inputs", head=head if "" in inputs_of else ["model", *head], rows=rows)
    return Section(name="inputs", title="Share of each input", text=text, tables=[table])


def sample_section(recorded: Numbers, charts: Sequence[Chart] = ()) -> Section:
    """Return the sample of a run: pairs, classes, reasons of exclusion, losses of the match, splits."""
    matching = recorded.get("matching", {})
    classes, reasons, splits = recorded["classes"], recorded["unclassified"], recorded["splits"]
    labelled, stored = sum(splits.values()), matching.get("pairs_stored", sum(classes.values()))
    steps = [
        ("spectra", matching.get("left_objects")),
        ("HSC images", matching.get("right_objects")),
        (f"pairs within {matching.get('radius_arcsec', 0):g} arcsec", matching.get("pairs")),
        ("expected by chance", matching.get("expected_by_chance")),
        ("pairs stored", stored),
        ("pairs with a label", labelled),
    ]
    funnel = [
        [name, f"{count:,.3g}" if isinstance(count, float) else f"{count:,}"]
        for name, count in steps
        if count is not None
    ]
    dropped = {**matching.get("drops", {}), **matching.get("pair_drops", {})}
    drops = {f"dropped: {name}": count for name, count in dropped.items()}
    folded = [
        counts_table(f"Why {sum(reasons.values()):,} pairs have no label", ["reason", "pairs"], reasons),
        counts_table(f"{sum(drops.values()):,} objects and pairs dropped before", ["reason", "count"], drops),
    ]
    return Section(
        name="sample",
        title="Sample",
        text=[
            f"Of {stored:,} pairs of an image and a spectrum {labelled:,} have a label; "
            f"{classes.get('unclassified', 0):,} have no BPT class, each counted by its reason. Of the BPT classes "
            "Seyfert and composite are positive, star-forming and LINER negative."
        ],
        charts=charts,
        tables=[
            TableView(caption="From surveys to labelled pairs", head=["step", "count"], rows=funnel),
            _splits(recorded),
        ],
        folded=folded,
    )


def _splits(recorded: Numbers) -> TableView:
    balance = recorded.get("split_classes", {})
    names = list(dict.fromkeys(name for counts in balance.values() for name in counts))
    rows = [
        [split, f"{count:,}", *(f"{balance.get(split, {}).get(name, 0):,}" for name in names)]
        for split, count in recorded["splits"].items()
    ]
    head = ["split", "galaxies", *(CLASS_NAMES.get(name, name) for name in names)]
    return TableView(caption="Splits by sky cell", head=head, rows=rows)
