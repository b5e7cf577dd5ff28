"""Parts of the report about the labels: where they come from, and one label against another."""

from collections.abc import Mapping
from typing import Any

from mmagn.evaluation.scorecard import Score
from mmagn.reporting.page.html import Section, TableView
from mmagn.reporting.page.scores import counts_table, metric_text, numbers_text, score_name

Numbers = Mapping[str, Any]

CATALOG_METRICS = ("average_precision", "roc_auc", "mcc", "precision", "recall")


def labels_section(recorded: Numbers) -> Section | None:
    """Return the labels of a catalogue against the BPT label, from ``scores.json`` or ``ablation.json``."""
    labels = recorded.get("labels", {})
    if "against_bpt" not in labels:
        return None
    against, counts = labels["against_bpt"], labels["counts"]
    first, second = against["labels"]
    made_of = "" if labels["made_of"] == "unstated" else f", made of {labels['made_of']} data"
    text = [
        f"The catalogue {labels['catalogue']}{made_of}, has {labels['rows']:,} rows, which belong to "
        f"{labels['joined']:,} pairs: {counts['positive']:,} are positive, {counts['negative']:,} negative, and of "
        f"{counts['unknown']:,} the label is unknown. Networks are trained on the label of "
        f"{'the catalogue' if labels['source'] == 'catalogue' else 'the BPT diagram'}.",
        f"{against['objects_with_both']:,} pairs have both labels. Cohen's kappa is the agreement beyond chance.",
    ]
    if labels["publication"]:
        text.append(f"Source of the labels: {labels['publication']}.")
    if absent := labels.get("absent_cuts"):
        text.append(f"Quality cuts of the source that the table has no columns for: {'; '.join(absent)}.")
    if recorded.get("background"):
        text.append(
            f"Positive-unlabelled data: {recorded['background']:,} objects of the split are a background of unknown "
            "label, which holds positives. Average precision and ROC-AUC are of known positives against it."
        )
    states = zip(against["states"], against["counts"], strict=True)
    rows = [
        ["agreement", numbers_text(against["agreement"])],
        ["Cohen's kappa", numbers_text(against["kappa"])],
        [f"positives of {second} that {first} finds", numbers_text(against["recall"])],
    ]
    tables = [
        TableView(
            caption=f"{first} (rows) against {second} (columns)",
            head=[first, *(f"{second}: {state}" for state in against["states"])],
            rows=[[state, *(f"{count:,}" for count in row)] for state, row in states],
        ),
        TableView(caption="Agreement", head=["quantity", "value [interval]"], rows=rows),
        *_catalog_tables(recorded),
    ]
    folded = [
        counts_table(
            "Why pairs have no label of the catalogue, or one by its coverage", ["reason", "pairs"], labels["reasons"]
        )
    ]
    return Section(name="labels", title="Labels against labels", text=text, tables=tables, folded=folded)


def _catalog_tables(recorded: Numbers) -> list[TableView]:
    """Scores on the labels of a catalogue, of a network or of the models of an ablation, trained on the BPT label."""
    if scored := recorded.get("catalog_scores"):
        counts = f"{scored['objects']:,} galaxies, {scored['positives']:,} positive, level {scored['level']}"
        if scored["background"]:
            counts += f", {scored['background']:,} of unknown label as background"
        rows = [[score_name(name), str(Score.from_dict(scored["scores"][name]))] for name in CATALOG_METRICS]
        return [TableView(caption=f"On the label of the catalogue: {counts}", head=["score", "value"], rows=rows)]
    models = recorded.get("catalog_models") or []
    metrics = CATALOG_METRICS[:3]
    rows = [[row["variant"], row["level"], *(metric_text(row, name) for name in metrics)] for row in models]
    caption = "Models that were trained on the BPT label, on the label of the catalogue"
    head = ["model", "level", *map(score_name, metrics)]
    return [TableView(caption=caption, head=head, rows=rows)] if rows else []
