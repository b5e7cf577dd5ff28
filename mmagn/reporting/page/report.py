"""The report of a run: its figures as PNG, and one page of HTML, made from the files of its folder."""

import logging
from pathlib import Path

import yaml

from mmagn.config.run_config import RunConfig, changed_settings, load_config
from mmagn.matching.store import PairStore, pair_store
from mmagn.reporting.figures.style import save_figures
from mmagn.reporting.page.ablation import ablation_page
from mmagn.reporting.page.files import provenance_rows, read_json
from mmagn.reporting.page.galaxies import Payload
from mmagn.reporting.page.html import Page, rendered
from mmagn.reporting.page.search import search_page
from mmagn.reporting.page.training import training_page
from mmagn.storage.files import as_written, whole_file
from mmagn.storage.run_folder import RunFolder

KINDS = {"search.json": "search", "ablation.json": "ablation", "scores.json": "training", "scores-*.json": "training"}
"""Kind of a run folder that holds such a file; scores of the test split come before those of the others."""

logger = logging.getLogger(__name__)


def write_report(run_path: Path, store: PairStore | None = None) -> Path:
    """Write figures and ``report.html`` into the folder of a training, an ablation or a search; return its path.

    Without a store, images and spectra are looked for at the source of the config of the run. ``FileNotFoundError``
    where the folder is no run folder, or has no scores yet.
    """
    run = RunFolder.open(run_path)
    results = [(kind, path) for name, kind in KINDS.items() for path in sorted(run.path.glob(name))]
    if not results:
        raise FileNotFoundError(f"{run.path} has nothing to report yet: it lacks {', '.join(KINDS)}")
    if damaged := run.damaged():
        raise ValueError(damaged[0])
    with as_written(run.path, "files as mmagn writes them"):
        page = _page(run, *results[0], store)
        save_figures({chart.name: chart.figure for chart in page.charts()}, run.figures)
        text = rendered(page)
    with whole_file(run.report) as part:
        part.write_text(text, encoding="utf-8")
    return run.report


def _page(run: RunFolder, kind: str, result: Path, store: PairStore | None) -> Page:
    """Page of a run whose result is this file."""
    recorded, config, provenance = read_json(result), load_config(run.config), read_json(run.provenance)
    match kind:
        case "training":
            parts = training_page(run, recorded, config, _payload(config, store))
        case "ablation":
            parts = ablation_page(run, recorded, config, _payload(config, store))
        case _:
            parts = search_page(run, recorded)
    return Page(
        title=run.path.name,
        kind=kind,
        started=str(provenance.get("started", "")).replace("T", " "),
        changed=[(name, str(value)) for name, value in changed_settings(config).items()],
        config_text=yaml.safe_dump(yaml.safe_load(run.config.read_text(encoding="utf-8")), sort_keys=False),
        provenance=provenance_rows(provenance),
        command=str(provenance.get("command", "")),
        **parts,
    )


def _payload(config: RunConfig, store: PairStore | None) -> Payload:
    """Pairs of a run, or the reason why they are not at hand."""
    try:
        return Payload(store=store if store is not None else pair_store(config.data, config.matching))
    except (OSError, ValueError) as error:
        logger.warning("the report has no images: %s", error)
        return Payload(store=None, reason=str(error))
