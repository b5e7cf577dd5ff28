"""Ten lines take a user from nothing to a prediction; every kind of galaxy and path is accepted."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure

import mmagn

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """Names left by the code block of the README, run on a smaller survey in a folder of its own."""
    folder = tmp_path_factory.mktemp("notebook")
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(code.strip().splitlines()) <= 12
    small = {
        "data.cache_dir": folder / "cache",
        "runs_dir": str(folder / "runs"),
        "data.simulate.pairs": 120,
        "data.simulate.agn_fraction": 0.4,
        "data.simulate.seed": 3,
        "training.device": "cpu",
        "bootstrap_draws": 20,
    }
    code = code.replace("epochs=10", "epochs=3, **small").replace('"pairs"', "folder / 'pairs'")
    names = {"small": small, "folder": folder}
    exec(compile(code, str(README), "exec"), names)
    return names


def of_store(config: mmagn.RunConfig, session: dict) -> mmagn.RunConfig:
    return replace(config, data=replace(config.data, source="store", root=str(session["store"].path)))


def test_the_lines_of_the_readme_end_in_predictions_and_a_picture(session: dict) -> None:
    table, run = session["table"], session["run"]
    assert isinstance(table, Table)
    assert len(table) == len(session["store"])
    assert isinstance(session["figure"], Figure)
    assert run.folder.is_dir()
    assert run.report.is_file()
    assert run.config.training.epochs == 3
    assert {"sdss_object_id", "probability"} <= {*run.predictions.colnames}, run.predictions.colnames


def test_predictions_in_memory_are_those_of_the_command(session: dict, tmp_path: Path) -> None:
    from mmagn import pipeline

    config = of_store(session["run"].config, session)
    pipeline.predict(config, [session["run"].folder], tmp_path / "scores.parquet")
    written = Table.read(tmp_path / "scores.parquet")
    np.testing.assert_allclose(session["table"]["logit"], written["logit"], rtol=1e-5, atol=1e-6)
    assert session["table"].colnames == written.colnames


def test_galaxies_may_be_pairs_views_rows_or_the_config_of_a_store(session: dict) -> None:
    model, store = session["model"], session["store"]
    pairs = mmagn.open_pairs(of_store(session["config"], session))
    assert len(pairs) == len(store)
    assert pairs[0].cutout.flux.shape == pairs[-1].cutout.flux.shape == (5, 160, 160)
    first = model.predict(pairs[0])["logit"][0]
    row = next(iter(pairs.dataset))
    for galaxy in (pairs[0], [pairs[0]], row, mmagn.Galaxy(cutout=pairs[0].cutout, spectrum=pairs[0].spectrum)):
        assert model.predict(galaxy)["logit"][0] == pytest.approx(first, rel=1e-5)
    assert model.predict(pairs[0].spectrum)["modalities"][0] == "spectrum"
    assert model.predict(pairs[0].cutout)["modalities"][0] == "image"
    with pytest.raises(ValueError, match=r"a str is no galaxy; allowed: Pair, Galaxy"):
        model.predict(["299489677444933632"])
    with pytest.raises(ValueError, match="there is no galaxy"):
        model.predict([])


def test_embeddings_and_explanations_of_galaxies_in_memory(session: dict) -> None:
    model, pair = session["model"], session["store"].pair(0)
    embedding = model.embed([pair, pair])
    assert embedding.shape[0] == 2
    np.testing.assert_array_equal(embedding[0], embedding[1])
    assert isinstance(model.explain(pair).plot(), Figure)


def test_a_stream_of_pairs_has_shapes_but_no_length(session: dict) -> None:
    pairs = mmagn.open_pairs(session["config"])
    pair = next(iter(pairs))
    assert pair.cutout.flux.shape == pair.cutout.valid.shape == (5, 160, 160)
    with pytest.raises(TypeError, match=r"pairs of data\.source embedded have no length"):
        len(pairs)


def test_paths_may_be_text_and_runs_may_be_folders(session: dict, tmp_path: Path) -> None:
    assert mmagn.load(str(session["run"].folder)).folder == session["run"].folder
    table = mmagn.measure(session["config"], str(tmp_path / "lines.parquet"))
    assert "flux_halpha" in table.colnames
    assert mmagn.evaluate(session["run"], "validation").text()


def test_all_public_names_are_listed_and_found() -> None:
    assert dir(mmagn) == sorted(mmagn.__all__)
    for name in mmagn.__all__:
        assert getattr(mmagn, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        mmagn.trian  # noqa: B018
