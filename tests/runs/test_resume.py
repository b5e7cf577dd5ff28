"""A run is resumed only where that gives the result of an undisturbed run."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from mmagn.config.run_config import RunConfig, save_config
from mmagn.labels.config import CatalogConfig, LabelsConfig
from mmagn.pipeline import verify
from mmagn.runs.resume import NEEDS, run_to_resume
from mmagn.storage.run_folder import RunFolder
from mmagn.training.checkpoints import WholeCheckpointIO, good_checkpoint


def started_run(config: RunConfig, *, checkpoint: bool = True) -> RunFolder:
    """A run folder as a run leaves it that is killed after its first checkpoint."""
    run = RunFolder.create(config.runs_dir, config.name)
    for name in NEEDS:
        (run.path / name).touch()
    save_config(config, run.config)
    if checkpoint:
        WholeCheckpointIO().save_checkpoint({"state_dict": {}}, run.last)
    return run


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return RunConfig(name="tiny", runs_dir=str(tmp_path))


def changed(config: RunConfig, **training: object) -> RunConfig:
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **training))


def test_auto_takes_the_latest_run_of_the_name_and_starts_a_new_one_where_there_is_none(config: RunConfig) -> None:
    assert run_to_resume(config, "auto") is None
    started_run(config)
    latest = started_run(config)
    started_run(dataclasses.replace(config, name="tiny2"))
    assert run_to_resume(config, "auto") == latest
    assert run_to_resume(config, "") is None


def test_auto_passes_over_runs_of_other_settings_and_runs_without_a_checkpoint(
    config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    good = started_run(config)
    started_run(changed(config, learning_rate=0.5))
    started_run(config, checkpoint=False)
    (RunFolder.create(config.runs_dir, "tiny").path / "config.yaml").touch()
    assert run_to_resume(config, "auto") == good
    assert "holds no checkpoint to resume from" in caplog.text
    assert "is not a complete run folder: it lacks split.parquet" in caplog.text


def test_a_catalogue_that_is_only_scored_does_not_make_another_run(config: RunConfig) -> None:
    run = started_run(config)
    catalog = CatalogConfig(table="wise.fits", preset="stern2012", use="score")
    scored = dataclasses.replace(config, labels=dataclasses.replace(config.labels, catalog=catalog))
    assert run_to_resume(scored, "auto") == run
    trained = dataclasses.replace(config, labels=LabelsConfig(catalog=dataclasses.replace(catalog, use="train")))
    assert run_to_resume(trained, "auto") is None


def test_a_longer_run_or_another_device_is_the_same_run(config: RunConfig) -> None:
    run = started_run(config)
    assert run_to_resume(changed(config, epochs=99, device="cpu", log_every=1), "auto") == run


def test_a_cut_checkpoint_is_passed_over_for_the_one_before(
    config: RunConfig, caplog: pytest.LogCaptureFixture
) -> None:
    run = started_run(config)
    run.previous.write_bytes(run.last.read_bytes())
    run.last.write_bytes(run.last.read_bytes()[:100])
    assert run_to_resume(config, "auto") == run
    assert "last.ckpt is not a readable checkpoint" in caplog.text
    assert "training resumes from previous.ckpt instead" in caplog.text


def test_a_named_run_of_other_settings_is_refused_with_both_values(config: RunConfig) -> None:
    run = started_run(config)
    with pytest.raises(ValueError, match=f"was started with training.batch_size {config.training.batch_size}, not 8"):
        run_to_resume(changed(config, batch_size=8), str(run.path))


def test_a_named_run_without_a_checkpoint_is_refused_and_kept(config: RunConfig) -> None:
    run = started_run(config, checkpoint=False)
    with pytest.raises(FileNotFoundError, match="holds no checkpoint to resume from"):
        run_to_resume(config, str(run.path))
    assert run.path.is_dir()


def test_the_script_hands_auto_on_with_the_settings_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(__file__).resolve().parent.parent.parent / "scripts" / "train.py"
    spec = importlib.util.spec_from_file_location("script_train", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    requested = []

    class Done:
        exit_code = 0

    monkeypatch.setattr(
        "mmagn.pipeline.train", lambda config, resume: requested.append((config.name, resume)) or Done()
    )
    assert script.main(["--resume", "auto", "--name", "tiny"]) == 0
    assert requested == [("tiny", "auto")]


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["config.yaml", "split.parquet", "scaling.json", "measurements.parquet", "best.ckpt"])
def test_a_flipped_bit_in_anything_that_a_resumed_run_keeps_is_refused_by_name(config: RunConfig, name: str) -> None:
    run = started_run(config)
    for each in NEEDS[1:]:
        (run.path / each).write_text(each, encoding="utf-8")
    run.seal()
    WholeCheckpointIO().save_checkpoint({"state_dict": {}}, run.best)
    assert run_to_resume(config, str(run.path)) == run
    flipped(run.path / name)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        run_to_resume(config, str(run.path))
    assert run_to_resume(config, "auto") is None


def test_a_flipped_bit_in_the_last_checkpoint_costs_the_steps_since_the_one_before(config: RunConfig) -> None:
    run = started_run(config)
    run.last.rename(run.previous)
    WholeCheckpointIO().save_checkpoint({"state_dict": {}}, run.last)
    assert (good_checkpoint(run), verify(run.path)) == (run.last, [])
    flipped(run.last)
    assert run_to_resume(config, "auto") == run
    assert good_checkpoint(run) == run.previous
    assert [sentence.partition(" is ")[0] for sentence in verify(run.path)] == [str(run.last)]
