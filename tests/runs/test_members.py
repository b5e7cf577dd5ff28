"""Networks that are averaged have the same input and were trained on the same labels."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from mmagn.config.run_config import RunConfig, save_config
from mmagn.labels.config import CatalogConfig, LabelsConfig
from mmagn.runs.members import load_members
from mmagn.tensors.config import TensorsConfig

WISE = CatalogConfig(table="one/wise.fits", preset="stern2012")


def copied(world: dict, folder: Path, **changes: object) -> Path:
    shutil.copytree(world["run"], folder)
    save_config(dataclasses.replace(world["config"], **changes), folder / "config.yaml")
    return folder


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": LabelsConfig(min_snr=0, catalog=WISE)}, r"trained on other labels .*labels\.catalog"),
        ({"labels": LabelsConfig(min_snr=5)}, r"trained on other labels .*labels\.min_snr is 0.* and 5"),
        ({"tensors": TensorsConfig(image_size=40)}, r"take different input .*tensors\.image_size"),
    ],
)
def test_runs_of_other_labels_or_inputs_are_not_averaged(
    world: dict, tmp_path: Path, changes: dict, sentence: str
) -> None:
    other = copied(world, tmp_path / "other", **changes)
    with pytest.raises(ValueError, match=sentence):
        load_members([world["run"], other])


def test_runs_of_the_same_labels_are_averaged_wherever_the_table_lies(world: dict, tmp_path: Path) -> None:
    config: RunConfig = world["config"]
    catalogs = (WISE, dataclasses.replace(WISE, table="two/wise.fits"))
    trained = [dataclasses.replace(config.labels, catalog=each) for each in catalogs]
    runs = [copied(world, tmp_path / str(number), labels=labels) for number, labels in enumerate(trained)]
    assert len(load_members(runs)) == 2
    scored = dataclasses.replace(config.labels, catalog=dataclasses.replace(WISE, use="score"))
    assert len(load_members([world["run"], copied(world, tmp_path / "scored", labels=scored)])) == 2
