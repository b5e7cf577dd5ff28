"""``match.py --plan`` reads positions only and tells why there are few pairs, above all where there are none."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmagn.matching.store import open_store
from mmagn.surveys import readers

MATCH = Path(__file__).resolve().parent.parent / "scripts" / "match.py"
ARCSEC = 1 / 3600
FIGURES = {"sky.png", "coverage.png", "separations.png", "radius.png", "cells.png"}


def match(arguments: Sequence[str]) -> int:
    spec = importlib.util.spec_from_file_location("script_match", MATCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(arguments)


def planned(v1_tree, tmp_path, offset_arcsec: float) -> int:
    sdss = [{"object_id": 100 + n, "ra": 10.0 + n / 60, "dec": 1.0} for n in range(3)]
    hsc = [{"object_id": 200 + n, "ra": 10.0 + n / 60, "dec": 1.0 + offset_arcsec * ARCSEC} for n in range(3)]
    v1_tree(tmp_path / "tree", sdss=sdss, hsc=hsc)
    source = ["--data.source", "hdf5", "--data.root", str(tmp_path / "tree")]
    return match([*source, "--plan", "--out", str(tmp_path / "plan")])


def test_a_plan_is_text_numbers_and_figures_without_a_pixel(v1_tree, tmp_path, capsys, monkeypatch):
    for name in ("read_cutouts", "read_spectra"):
        monkeypatch.setattr(readers.Hdf5Reader, name, None)
    assert planned(v1_tree, tmp_path, 0.3) == 0
    assert {path.name for path in (tmp_path / "plan").iterdir()} == {*FIGURES, "plan.json", "pairs.parquet"}
    content = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert (content["pairs"], content["cells"]["pairs"]) == (3, [3])
    assert "sky in common" in capsys.readouterr().out


def test_without_a_pair_the_plan_is_there_and_the_exit_code_is_2(v1_tree, tmp_path, capsys):
    assert planned(v1_tree, tmp_path, 6.0) == 2
    printed = capsys.readouterr()
    assert "nearest two objects: 6 arcsec apart" in printed.out
    assert "no spectrum has an HSC image within 1 arcsec" in printed.err
    content = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert content["pairs"] == 0
    assert content["radii"]["false_fraction"][0] is None
    assert {path.name for path in (tmp_path / "plan").iterdir()} >= FIGURES


def test_the_index_of_a_plan_has_the_pairs_of_a_match_that_reads_the_surveys(v1_tree, tmp_path):
    place = {"ra": 10.0, "dec": 1.0}
    better = {"object_id": 2, "ra": 10.0, "dec": 1.0 + 0.3 * ARCSEC, "spectrum_ivar": np.full(200, 100.0)}
    v1_tree(tmp_path / "tree", sdss=[{"object_id": 1, **place}, better], hsc=[{"object_id": 7, **place}])
    source = ["--data.source", "hdf5", "--data.root", str(tmp_path / "tree")]
    assert match([*source, "--plan", "--out", str(tmp_path / "plan")]) == 0
    assert match([*source, "--index", str(tmp_path / "plan" / "pairs.parquet"), "--out", str(tmp_path / "store")]) == 0
    store = open_store(tmp_path / "store")
    assert store.index["sdss_object_id"].tolist() == ["2"]
    assert store.report["repeats"] == {"2": ["1"]}


def test_a_plan_cannot_be_pushed(tmp_path, capsys):
    assert match(["--plan", "--push", "someone/pairs", "--out", str(tmp_path)]) == 2
    assert "--plan makes no store" in capsys.readouterr().err
