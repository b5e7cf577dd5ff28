"""One worker of a study, for tests that kill it."""

import time
from collections.abc import Iterator

from mmagn.config.run_config import RunConfig
from mmagn.config.search import SearchConfig
from mmagn.search.storage import study_storage
from mmagn.search.study import open_study, run_trials


def main(storage: str, name: str, trials: int, fold_s: float) -> None:
    """Run trials whose three folds take ``fold_s`` seconds each until the study has enough of them."""
    config = RunConfig(search=SearchConfig(storage=storage, trials=trials, folds=3, heartbeat_s=10, prune=False))

    def scores(tried: RunConfig) -> Iterator[float]:
        for _ in range(3):
            time.sleep(fold_s)
            yield 1 - abs(tried.models.dropout - 0.2)

    with study_storage(config) as database:
        run_trials(open_study(config, database, name, "objects"), config, scores)
