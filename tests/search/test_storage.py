"""Where studies are kept: a local file, or a database that outlives a worker that is killed."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import search_worker
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from postgres_server import postgres_server, server_binaries, unprivileged_user
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from mmagn.config.run_config import RunConfig
from mmagn.config.search import SearchConfig
from mmagn.search.storage import dashboard_command, show_dashboard, storage_url, study_storage
from mmagn.search.study import finished_trials, open_study

TRIALS = 6


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed (extra postgres)")
    binaries = server_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL server binaries (initdb, postgres) on PATH or under /usr/lib/postgresql")
    try:
        unprivileged_user()
    except LookupError as error:
        pytest.skip(str(error))
    with postgres_server(binaries) as url:
        yield url


def opened(config: RunConfig) -> None:
    with study_storage(config):
        pass


def worker(url: str) -> ForkServerProcess:
    context = get_context("forkserver")
    context.set_forkserver_preload(["search_worker"])
    process = context.Process(target=search_worker.main, args=(url, "shared", TRIALS, 0.25))
    process.start()
    return process


def running_trial(study: Study, pid: int | None) -> FrozenTrial | None:
    """The trial that a process is in the middle of: started, one fold reported, not finished."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if trial.user_attrs.get("worker", "").endswith(f":{pid}") and trial.intermediate_values:
            return trial
    return None


def test_a_study_of_two_workers_goes_on_when_one_is_killed_in_a_trial(database: str) -> None:
    config = RunConfig(search=SearchConfig(storage=database, trials=TRIALS, folds=3, heartbeat_s=10, prune=False))
    with study_storage(config) as storage:
        study = open_study(config, storage, "shared", "objects")
        killed, survivor = killed_in_a_trial(study, storage, database)
        trials = study.get_trials()
        finished = finished_trials(study)
    assert trials[killed.number].state == TrialState.FAIL
    assert len(finished) == TRIALS
    again = [trial for trial in finished if trial.system_attrs.get("failed_trial") == killed.number]
    assert [trial.params for trial in again] == [killed.params]
    assert str(survivor) in {trial.user_attrs["worker"].rpartition(":")[2] for trial in finished}
    places = [tuple(trial.params.values()) for trial in finished]
    assert len(set(places)) == len(places)


def killed_in_a_trial(study: Study, storage: RDBStorage, database: str) -> tuple[FrozenTrial, int | None]:
    """Let two workers run, kill one in a trial; that trial, and the process that survived to the end of the study."""
    survivor, victim = worker(database), worker(database)
    try:
        killed = None
        while killed is None:
            assert victim.is_alive(), "the worker ended before it could be killed"
            time.sleep(0.1)
            killed = running_trial(study, victim.pid)
        os.kill(survivor.pid, signal.SIGSTOP)  # it must not end the study before the heartbeat is old
        victim.kill()
        with storage.engine.begin() as connection:
            old = "UPDATE trial_heartbeats SET heartbeat = heartbeat - INTERVAL '1 hour' WHERE trial_id = :trial"
            connection.execute(text(old), {"trial": killed._trial_id})
        os.kill(survivor.pid, signal.SIGCONT)
        survivor.join()
        assert survivor.exitcode == 0
    finally:
        for process in (survivor, victim):
            process.kill()
            process.join()
    assert victim.exitcode == -signal.SIGKILL
    return killed, survivor.pid


def test_a_database_that_does_not_answer_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("psycopg", reason="the driver psycopg is not installed (extra postgres)")
    config = RunConfig(search=SearchConfig(storage=f"postgresql://someone@/studies?host={tmp_path}"))
    with pytest.raises(ConnectionError, match="cannot be reached") as error:
        opened(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("no url at all", "search.storage is not the URL of a database"),
        ("oracle://someone@host/studies", "needs a driver that is not installed"),
        ("magic://someone@host/studies", "magic"),
    ],
)
def test_a_storage_that_cannot_be_is_refused_with_one_sentence(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"search\.storage") as error:
        opened(RunConfig(search=SearchConfig(storage=url)))
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def _raise_within(config: RunConfig, error: Exception) -> None:
    with study_storage(config):
        raise error


def test_a_lost_connection_is_one_sentence_that_says_how_to_resume(small: RunConfig) -> None:
    stopped = OperationalError("SELECT 1", {}, Exception("terminating connection due to administrator command"))
    with pytest.raises(ConnectionError, match=r"the connection was lost .*the same command resumes it") as error:
        _raise_within(small, stopped)
    assert "\n" not in str(error.value)


def test_processes_that_create_the_same_file_wait_for_each_other(small: RunConfig) -> None:
    context = get_context("fork")
    workers = [context.Process(target=opened, args=(small,)) for _ in range(4)]
    for process in workers:
        process.start()
    for process in workers:
        process.join()
    assert [process.exitcode for process in workers] == [0] * 4


def test_a_password_does_not_reach_the_run_folder() -> None:
    with pytest.raises(ValueError, match=r"search\.storage holds a password") as error:
        SearchConfig(storage="postgresql://someone:secret@host/studies")
    assert "secret" not in str(error.value)


def test_the_default_is_a_file_in_the_cache(small: RunConfig) -> None:
    path = Path(small.data.cache_dir) / "searches.db"
    assert storage_url(small) == f"sqlite:///{path}"
    opened(small)
    assert path.is_file()


def test_the_dashboard_is_shown_or_its_command_told(
    small: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "pip install optuna-dashboard, then optuna-dashboard sqlite:///" in show_dashboard(small)
    content = tmp_path / "content"
    stub = tmp_path / "optuna-dashboard"
    stub.write_text(f'#!/bin/sh\necho "$1" > {content}\n')
    stub.chmod(0o755)
    assert show_dashboard(small) == ""
    assert content.read_text().strip() == dashboard_command(small)[1]
    there = replace(small, search=replace(small.search, storage="postgresql://someone@host/studies"))
    assert dashboard_command(there) == ["optuna-dashboard", "postgresql+psycopg://someone@host/studies"]
