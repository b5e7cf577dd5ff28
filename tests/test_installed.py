"""The wheel works on its own: in a fresh environment, outside a clone, with its configs and its command."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "mmagn", "configs")
TINY = [
    *("--data.simulate.pairs", "120", "--data.simulate.agn_fraction", "0.4", "--data.simulate.seed", "3"),
    *("--training.epochs", "2", "--evaluation.bootstrap_draws", "20", "--training.device", "cpu"),
]


def run(*command: object, folder: Path) -> str:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**kept, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.timeout(1800)
def test_the_installed_command_trains_on_a_small_survey(tmp_path: Path) -> None:
    clone, fresh, elsewhere = tmp_path / "clone", tmp_path / "fresh", tmp_path / "elsewhere"
    clone.mkdir()
    elsewhere.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, clone, folder=tmp_path)
    (wheel,) = tmp_path.glob("mmagn-*.whl")
    venv.create(fresh, with_pip=False)
    python = fresh / "bin" / "python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", wheel, folder=tmp_path)
    packages = Path(
        run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=elsewhere).strip()
    )
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")

    where = run(python, "-c", "import mmagn; print(mmagn.__file__, mmagn.__version__)", folder=elsewhere)
    assert where.startswith(str(packages))
    assert run(fresh / "bin" / "mmagn", "--version", folder=elsewhere).split()[1] == where.split()[1]
    run(fresh / "bin" / "mmagn", "train", "--config", "handcrafted.yaml", *TINY, folder=elsewhere)
    (folder,) = (elsewhere / "checkpoints").iterdir()
    assert (folder / "scores.json").is_file()
