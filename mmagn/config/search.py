"""Settings of a search for hyperparameters."""

import re
from dataclasses import dataclass
from typing import Any, Literal

from mmagn.storage.settings import Settings, section, setting

HEAD_SPACE = ("hidden_dim", "dropout", "learning_rate", "weight_decay")
"""What a search of the head alone can change: the branches below it stay as they are."""
SPACE = (*HEAD_SPACE, "widths", "image_size", "image_noise", "spectrum_noise", "dihedral")
"""Everything that can be searched."""


def _searched(name: str, default: Any, **allowed: Any) -> Any:
    """Field of the values that are tried of a searched setting."""
    return setting(default, "search", needs=("search.space", name), **allowed)


def _check_storage(url: str) -> None:
    """Raise where the address of a database cannot be parsed or holds a password, without repeating it."""
    from sqlalchemy.engine import make_url  # where used: most commands need no database
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ValueError(
            "search.storage is not the URL of a database; allowed: such as postgresql://user@host/database"
        ) from None
    secrets = [name for name in parsed.query if re.search("pass|pwd|secret|token", name, re.IGNORECASE)]
    if parsed.password is not None or [name for name in secrets if name.lower() != "passfile"]:
        raise ValueError(
            "search.storage holds a password, which would be written into the run folder; "
            "leave it out and give it in PGPASSWORD or ~/.pgpass"
        )


@dataclass(frozen=True, kw_only=True)
class SearchRangesConfig(Settings):
    """Where values are looked for; those of ``search.space`` are used.

    Attributes
    ----------
    hidden_dim
        Smallest and largest ``models.hidden_dim``; even numbers are tried.
    dropout
        Smallest and largest ``models.dropout``.
    learning_rate
        Smallest and largest ``training.learning_rate``, even in its logarithm.
    weight_decay
        Smallest and largest ``training.weight_decay``, even in its logarithm.
    widths
        Choices of ``models.spectrum.widths``.
    image_size
        Choices of ``tensors.image_size``.
    image_noise
        Smallest and largest ``tensors.augment.image_noise``.
    spectrum_noise
        Smallest and largest ``tensors.augment.spectrum_noise``.
    dihedral
        Choices of ``tensors.augment.dihedral``.
    """

    SECTION = "search.ranges"
    hidden_dim: tuple[int, int] = _searched("hidden_dim", (16, 64), at_least=2, even=True, ascending=True)
    dropout: tuple[float, float] = _searched("dropout", (0.1, 0.5), at_least=0, below=1, ascending=True)
    learning_rate: tuple[float, float] = _searched("learning_rate", (1e-4, 1e-2), above=0, ascending=True)
    weight_decay: tuple[float, float] = _searched("weight_decay", (1e-6, 1e-2), above=0, ascending=True)
    widths: tuple[tuple[int, ...], ...] = _searched(
        "widths", ((8, 16, 24), (16, 32, 48), (24, 48, 72)), at_least=1, one_or_more=True, each_once=True
    )
    image_size: tuple[int, ...] = _searched(
        "image_size", (64, 96, 128), at_least=16, at_most=160, even=True, one_or_more=True, each_once=True
    )
    image_noise: tuple[float, float] = _searched("image_noise", (0.0, 0.5), at_least=0, ascending=True)
    spectrum_noise: tuple[float, float] = _searched("spectrum_noise", (0.0, 0.5), at_least=0, ascending=True)
    dihedral: tuple[bool, ...] = _searched("dihedral", (False, True), one_or_more=True, each_once=True)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """What ``scripts/search.py`` looks for, where, and for how long.

    Attributes
    ----------
    over
        ``head``: the head alone, on embeddings of branches that are fitted once per fold with the other settings of
        the run; ``all``: every trial fits whole networks.
    trials
        Finished trials that the study ends with, pruned ones included, over all workers and all starts.
    folds
        Inner folds by groups of sky (``splits.nside``), none of which holds an object of the test split; a trial is
        worth the mean of their average precisions.
    space
        What is searched: hidden_dim, dropout, learning_rate, weight_decay, and, where ``over`` is all, widths,
        image_size, image_noise, spectrum_noise, dihedral.
    ranges
        Where values are looked for.
    startup_trials
        Trials at random places before the sampler learns, and finished trials before one is pruned.
    prune
        Give a trial up after a fold where the mean of its folds so far is below the median of the other trials.
    study
        Name of the study, which a second start goes on with; empty is the name of the run.
    storage
        URL of the database that keeps the study, such as postgresql://user@host/database for many machines at once;
        without a password, which belongs into PGPASSWORD or ~/.pgpass. Empty is ``searches.db`` in
        ``data.cache_dir`` (SQLite).
    heartbeat_s
        Seconds between two signs of life of a running trial; one that was silent twice as long is taken to be dead
        and tried again.
    nested
        Score the whole search as well: on outer folds by groups of sky, each searched anew without its test objects.
    outer_folds
        Outer folds of the nested search.
    """

    SECTION = "search"
    over: Literal["head", "all"] = setting("head", "search")
    trials: int = setting(100, "nothing", at_least=1)
    folds: int = setting(5, "search", at_least=2)
    space: tuple[str, ...] = setting(
        ("hidden_dim", "dropout", "learning_rate"), "search", choices=SPACE, one_or_more=True, each_once=True
    )
    ranges: SearchRangesConfig = section(SearchRangesConfig)
    startup_trials: int = setting(10, "search", at_least=1)
    prune: bool = setting(True, "search")
    study: str = setting("", "nothing")
    storage: str = setting("", "nothing")
    heartbeat_s: int = setting(30, "nothing", at_least=1)
    nested: bool = setting(False, "nothing")
    outer_folds: int = setting(5, "nothing", at_least=2, needs=("search.nested", True))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.over == "head" and (deeper := [name for name in self.space if name not in HEAD_SPACE]):
            raise ValueError(
                f"search.space has {deeper[0]}, which changes what is below the head; "
                f"allowed with search.over head: {', '.join(HEAD_SPACE)}; or set search.over all"
            )
        if self.storage:
            _check_storage(self.storage)
