"""Tables appear whole, and a killed process leaves nothing that stays."""

import os
import subprocess
import sys

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
