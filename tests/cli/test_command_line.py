"""A command answers every failure with one sentence and an exit code."""

import errno
import importlib
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from mmagn.cli.command_line import exit_code
from mmagn.cli.main import COMMANDS, main
from mmagn.storage.version import __version__


def raising(error: BaseException) -> object:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (
            ValueError("labels.min_snr is -1;\n allowed: 0 or more"),
            2,
            "error: labels.min_snr is -1; allowed: 0 or more\n",
        ),
        (FileNotFoundError("no run folder"), 2, "error: no run folder\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_a_foreseen_failure_is_one_sentence(
    error: BaseException, code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(error)) == code
    assert capsys.readouterr().err == sentence


def test_an_unexpected_failure_is_one_sentence_with_the_file_of_its_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert exit_code(raising(KeyError("flux"))) == 1
    messages = capsys.readouterr().err
    assert messages.count("\n") == 1
    (log,) = tmp_path.iterdir()
    assert messages.endswith(f"KeyError: 'flux'); the traceback is in {log}\n")
    assert "Traceback (most recent call last)" in log.read_text(encoding="utf-8")


def test_a_cache_folder_that_cannot_be_written_names_its_setting(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    denied = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".cache"))
    assert exit_code(raising(denied)) == 2
    assert "; set data.cache_dir to a folder that can be written\n" in capsys.readouterr().err
    assert exit_code(raising(PermissionError(errno.EACCES, "Permission denied", "/elsewhere/x"))) == 2
    assert "data.cache_dir" not in capsys.readouterr().err


def test_every_command_has_a_short_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    overview = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in overview
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        text = capsys.readouterr().out
        assert f"mmagn {name} " in text
        assert len(text.splitlines()) <= 80, name


def test_the_version_and_unknown_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmagn {__version__}\n"
    assert main(["trian"]) == 2
    assert capsys.readouterr().err == "error: mmagn has no command trian; the nearest is train\n"


def test_the_help_does_not_load_torch() -> None:
    import subprocess

    code = """
import sys
from mmagn.cli.main import main
try:
    main(["train", "--help"])
except SystemExit:
    sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_scripts_are_the_commands() -> None:
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    for name in COMMANDS:
        text = (scripts / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
        assert f"import {name.replace('-', '_')} as main" in text


def test_the_first_line_of_the_log_does_not_wait_for_torch() -> None:
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('torch', 'lightning', 'astropy', 'datasets', 'sklearn'):\n"
        "            raise ImportError(f'{name} is blocked')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from mmagn.cli.main import main\n"
        "sys.exit(main(['train', '--config', 'handcrafted.yaml']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    first, *rest = done.stderr.splitlines()
    assert first == "mmagn train: handcrafted, data.source embedded; loading libraries"
    assert "is blocked" in " ".join(rest), "they are imported afterwards"


def test_what_libraries_do_on_a_first_run_stays_off_the_console(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert exit_code(lambda: logging.getLogger("matplotlib.font_manager").info("generated new fontManager")) == 0
    assert not caplog.records


def test_every_benchmark_finds_what_it_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = Path(__file__).resolve().parents[2] / "scripts"
    monkeypatch.syspath_prepend(str(scripts))
    names = [path.stem for path in sorted((scripts / "benchmarks").glob("*.py"))]
    assert all(importlib.import_module(f"benchmarks.{name}") for name in names)


def test_a_part_that_a_benchmark_does_not_have_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    benchmark = importlib.import_module("benchmarks.truth").truth_benchmark
    with pytest.raises(
        SystemExit,
        match="--only plantd: there is no such part; allowed: cost, main, planted, large, verdict, masked-verdict",
    ):
        benchmark(large=9, trainings=1, minutes=1.0, out=str(tmp_path / "out"), only="cost,plantd", seed=1)
    assert not (tmp_path / "out").exists()
    assert logging.getLogger("mmagn").level == logging.NOTSET, "what is refused leaves the log of later tests as it was"
