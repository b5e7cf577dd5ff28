"""Commands around runs: train, evaluate, ablate, search, report, push, verify."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mmagn.cli.arguments import ConfigParser, Parser
from mmagn.cli.command_line import command
from mmagn.cli.galaxy import OBJECTS_HELP, with_objects

_LISTED = (
    "name",
    "runs_dir",
    "data.source",
    "data.root",
    "data.cache_dir",
    "models.branches",
    "training.epochs",
    "training.batch_size",
    "training.device",
    "seed",
)


@command
def train(arguments: Sequence[str]) -> int:
    """Train on matched pairs and score the result: the whole way from sky to score."""
    parser = ConfigParser(
        train,
        [
            "mmagn train --config fused.yaml",
            "mmagn train --config handcrafted.yaml --data.source store --data.root STORE",
            "mmagn train --config fused.yaml --training.epochs 50 --models.branches image,features",
            "mmagn train --resume checkpoints/20260101-120000-fused",
            "torchrun --nproc-per-node 4 scripts/train.py --config fused.yaml --resume auto",
        ],
        listed=_LISTED,
        base="--resume",
    )
    parser.add_argument("--objects", metavar="FILE", help=OBJECTS_HELP)
    parser.add_argument("--resume", default="", metavar="RUN", help="run folder to resume with its settings; or auto")

    config, options = parser.parsed(arguments)
    config = with_objects(config, options.objects)
    from mmagn.pipeline import train as train_pairs  # after parsing, so that --help need not wait for torch

    return train_pairs(config, resume=options.resume).exit_code


@command
def evaluate(arguments: Sequence[str]) -> None:
    """Score a trained run on one split of its pairs."""
    parser = Parser(evaluate, ["mmagn evaluate --run checkpoints/20260101-120000-fused"])
    parser.add_argument("--run", required=True, type=Path, help="run folder, such as checkpoints/20260101-120000-fused")
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"), help="pairs to score")

    options = parser.parse_args(arguments)
    from mmagn.pipeline import evaluate as evaluate_run  # after parsing, so that --help need not wait for torch

    evaluate_run(options.run, options.split)


@command
def ablate(arguments: Sequence[str]) -> None:
    """Compare models that see more or less of a galaxy on the same folds: the leakage ladder, with baselines."""
    parser = ConfigParser(
        ablate,
        [
            "mmagn ablate --config ablation.yaml",
            "mmagn ablate --config ablation.yaml --ablation.repeats 1 --ablation.workers 8",
            'mmagn ablate --config ablation.yaml --ablation.variants fused,image --ablation.questions "fused - image"',
            "mmagn ablate --config ablation.yaml --ablation.scheme leave-one-cell-out",
            "mmagn ablate --config ablation.yaml --data.source store --data.root STORE",
        ],
        listed=(
            *("ablation.variants", "ablation.questions", "ablation.folds", "ablation.repeats", "ablation.workers"),
            *("ablation.metric", "ablation.members", "data.source", "data.root", "runs_dir"),
        ),
    )

    config, _ = parser.parsed(arguments)
    from mmagn import pipeline  # after parsing, so that --help need not wait for torch

    pipeline.ablate(config)


@command
def search(arguments: Sequence[str]) -> None:
    """Search for better settings on inner folds outside the test split; the same command resumes a study."""
    parser = ConfigParser(
        search,
        [
            "mmagn search --config search.yaml",
            "mmagn search --config search.yaml --search.trials 200",
            "mmagn search --config search.yaml --search.over all --search.space widths,image_size",
            "mmagn search --config search.yaml --search.nested true",
            "mmagn search --config search.yaml --search.storage postgresql://user@host/database",
        ],
        listed=(
            *("search.over", "search.space", "search.trials", "search.folds", "search.nested", "search.study"),
            *("search.storage", "data.source", "data.root", "runs_dir"),
        ),
    )
    parser.add_argument("--dashboard", action="store_true", help="show the studies of search.storage in a browser")

    config, options = parser.parsed(arguments)
    if options.dashboard:
        from mmagn.search.storage import show_dashboard  # after parsing, so that --help need not wait for torch

        sys.stdout.write(f"{show_dashboard(config)}\n")
    else:
        from mmagn import pipeline

        pipeline.search(config)


@command
def report(arguments: Sequence[str]) -> None:
    """Write report.html of a run again: one page that opens without a network."""
    parser = Parser(report, ["mmagn report --run checkpoints/20260101-120000-fused"])
    parser.add_argument("--run", required=True, type=Path, help="folder of a training, an ablation or a search")

    options = parser.parse_args(arguments)
    from mmagn import pipeline  # after parsing, so that --help need not wait for torch

    sys.stdout.write(f"{pipeline.report(options.run)}\n")


@command
def push(arguments: Sequence[str]) -> None:
    """Upload a trained run as a model repository of a Hugging Face hub, with a card; mmagn predict --run loads it."""
    parser = Parser(push, ["mmagn push checkpoints/20260101-120000-fused ORG/NAME --private"])
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("repository", help="ORG/NAME; HF_ENDPOINT names the hub, HF_TOKEN its owner")
    parser.add_argument("--private", action="store_true", default=None, help="a new repository is seen by its owners")

    options = parser.parse_args(arguments)
    from mmagn.runs.hub import push_run  # after parsing, so that --help need not wait for torch

    sys.stdout.write(f"pushed: {push_run(options.run, options.repository, private=options.private)}\n")


@command
def verify(arguments: Sequence[str]) -> int:
    """Compare every file of a run or a store with the checksum of what was written."""
    parser = Parser(verify, ["mmagn verify checkpoints/20260101-120000-fused"])
    parser.add_argument("folder", type=Path, help="run folder or store")

    options = parser.parse_args(arguments)
    from mmagn import pipeline  # after parsing, so that --help need not wait for torch

    damaged = pipeline.verify(options.folder)
    sys.stdout.write("\n".join([*damaged, f"{options.folder}: {len(damaged)} damaged or missing files"]) + "\n")
    return 1 if damaged else 0
