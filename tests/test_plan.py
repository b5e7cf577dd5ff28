"""``match.py --plan`` reads positions only and tells why there are few pairs, above all where there are none."""

import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path

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


def test_a_plan_cannot_be_pushed(tmp_path, capsys):
    assert match(["--plan", "--push", "someone/pairs", "--out", str(tmp_path)]) == 2
    assert "--plan makes no store" in capsys.readouterr().err
