"""The wheel works on its own: in a fresh environment, outside a clone, with its configs and its command."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "mmagn", "configs")
SCM = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools_scm"]
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
    assert wheel.name.split("-")[1] == SCM["fallback_version"], "a copy without git has the fallback"
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


def test_the_version_is_that_of_the_git_tag(tmp_path: Path) -> None:
    """And of a commit after it the next one, in development; other tags count as none."""

    def git(*arguments: str) -> None:
        run("git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments, folder=tmp_path)

    def version() -> str:
        return run(sys.executable, "-m", "setuptools_scm", folder=tmp_path).strip()

    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert version() == SCM["fallback_version"]
    git("init", "-q")
    git("add", "pyproject.toml")
    git("commit", "-qm", "first")
    git("tag", "of-something-2")
    minor = SCM["fallback_version"].rpartition(".")[0]
    assert version().startswith(f"{minor}.")
    git("tag", "v7.1.0")
    assert version() == "7.1.0"
    git("commit", "-q", "--allow-empty", "-m", "second")
    assert version().startswith("7.1.1.dev1+g")


def test_the_hooks_of_a_commit_are_the_linters_of_make_lint() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert [each["repo"] for each in hooks] == ["local"], "which needs no network"
    entries = [hook["entry"].replace(".venv/bin/python ", "").replace(".venv/bin/", "") for hook in hooks[0]["hooks"]]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = makefile.partition("lint: $(VENV)/.installed-dev\n")[2].partition("\n\n")[0]
    commands = [
        line.strip().replace("$(RUN) ", "").replace("$(VENV)/bin/", "").removesuffix(" .")
        for line in recipe.splitlines()
    ]
    assert entries == commands
