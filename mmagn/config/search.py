"""Settings of a search for hyperparameters."""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

HEAD_SPACE = ("hidden_dim", "dropout", "learning_rate", "weight_decay")
"""What a search of the head alone can change: the branches below it stay as they are."""
SPACE = (*HEAD_SPACE, "widths", "image_size", "image_noise", "spectrum_noise", "dihedral")
"""Everything that can be searched."""


@dataclass(frozen=True, kw_only=True)
class SearchRangesConfig:
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

    hidden_dim: tuple[int, int] = (16, 64)
    dropout: tuple[float, float] = (0.1, 0.5)
    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    weight_decay: tuple[float, float] = (1e-6, 1e-2)
    widths: tuple[tuple[int, ...], ...] = ((8, 16, 24), (16, 32, 48), (24, 48, 72))
    image_size: tuple[int, ...] = (64, 96, 128)
    image_noise: tuple[float, float] = (0.0, 0.5)
    spectrum_noise: tuple[float, float] = (0.0, 0.5)
    dihedral: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        self._check("hidden_dim", "two even numbers from 2 on", all(n >= 2 and n % 2 == 0 for n in self.hidden_dim))
        self._check("dropout", "two numbers from 0 to below 1", all(0 <= n < 1 for n in self.dropout))
        for name in ("learning_rate", "weight_decay"):
            self._check(name, "two numbers above 0", min(getattr(self, name)) > 0)
        for name in ("image_noise", "spectrum_noise"):
            self._check(name, "two numbers from 0 on", min(getattr(self, name)) >= 0)
        for name in ("hidden_dim", "dropout", "learning_rate", "weight_decay", "image_noise", "spectrum_noise"):
            low, high = getattr(self, name)
            self._check(name, "the smaller number first", low <= high)
        for name in ("widths", "image_size", "dihedral"):
            choices = getattr(self, name)
            self._check(name, "one or more choices, each once", bool(choices) and len(set(choices)) == len(choices))
        good_widths = all(each and min(each) >= 1 for each in self.widths)
        self._check("widths", "choices such as [16, 32, 48], of positive numbers", good_widths)
        good_sizes = all(16 <= size <= 160 and size % 2 == 0 for size in self.image_size)
        self._check("image_size", "even numbers from 16 to 160", good_sizes)

    def _check(self, name: str, allowed: str, good: bool) -> None:
        if not good:
            raise ValueError(f"search.ranges.{name} is {getattr(self, name)}; allowed: {allowed}")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
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

    over: Literal["head", "all"] = "head"
    trials: int = 100
    folds: int = 5
    space: tuple[str, ...] = ("hidden_dim", "dropout", "learning_rate")
    ranges: SearchRangesConfig = field(default_factory=SearchRangesConfig)
    startup_trials: int = 10
    prune: bool = True
    study: str = ""
    storage: str = ""
    heartbeat_s: int = 30
    nested: bool = False
    outer_folds: int = 5

    def __post_init__(self) -> None:
        for name, least in {"trials": 1, "folds": 2, "startup_trials": 1, "heartbeat_s": 1, "outer_folds": 2}.items():
            if getattr(self, name) < least:
                raise ValueError(f"search.{name} is {getattr(self, name)}; allowed: {least} or more")
        if not self.space or len(set(self.space)) != len(self.space):
            raise ValueError(f"search.space is {self.space}; allowed: one or more names, each once")
        if unknown := [name for name in self.space if name not in SPACE]:
            raise ValueError(f"search.space has {unknown[0]}; allowed: {', '.join(SPACE)}")
        if self.over == "head" and (deeper := [name for name in self.space if name not in HEAD_SPACE]):
            raise ValueError(
                f"search.space has {deeper[0]}, which changes what is below the head; "
                f"allowed with search.over head: {', '.join(HEAD_SPACE)}; or set search.over all"
            )
        if urlsplit(self.storage).password is not None:
            raise ValueError(
                "search.storage holds a password, which would be written into the run folder; "
                "leave it out and give it in PGPASSWORD or ~/.pgpass"
            )
