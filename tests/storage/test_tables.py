"""Tables appear whole, and a killed process leaves nothing that stays."""

import os
import subprocess
import sys

import numpy as np
from astropy.table import Table

from mmagn.storage.tables import table_file


def test_what_a_killed_process_left_is_removed_and_the_parts_of_others_stay(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    abandoned = [tmp_path / f".lines.{ended.pid}.{part}" for part in ("spool", "parquet", "part")]
    others = [
        tmp_path / f".lines.{os.getppid()}.spool",
        tmp_path / f".more.{ended.pid}.spool",
        tmp_path / ".lines.x.spool",
    ]
    for path in (*abandoned, *others):
        path.touch()
    with table_file(tmp_path / "lines.parquet") as append:
        append(Table({"flux": [1.0]}))
    assert not any(path.exists() for path in abandoned)
    assert all(path.exists() for path in others)


def test_texts_that_a_spreadsheet_would_run_as_formulas_are_defused_in_csv(tmp_path):
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "J1234+5678", ""]
    with table_file(tmp_path / "names.csv") as append:
        append(Table({"name": texts, "flux": np.full(6, -1.0)}))
    table = Table.read(tmp_path / "names.csv", format="ascii.csv")
    assert table["name"].filled("").tolist() == ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "J1234+5678", ""]
    assert (table["flux"] == -1).all()
