"""Folds for cross-validation: whole groups of sky, whole objects, stratified as far as the groups allow."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold

from mmagn.evaluation.folds import Fold, Rows

_VALIDATION_FOLDS = 5


def sky_folds(
    group: ArrayLike, target: ArrayLike, folds: int, repeats: int, seed: int, *, object_id: ArrayLike | None = None
) -> list[Fold]:
    """Return repeated stratified folds of whole groups.

    Of the rows that are not tested, about 1 in ``folds - 1`` (one half for two folds) is a validation row.

    Parameters
    ----------
    group, target
        (object,) sky group, such as a HEALPix cell; 1 positive, 0 negative.
    folds, repeats
        Parts of the sample, and number of different partitions.
    seed
        Repeat r uses seed + r.
    object_id
        (object,) identity of the galaxy where one may occur in several rows; groups that share one are merged.

    Raises
    ------
    ValueError
        Where there are fewer groups or fewer objects of a class than folds need.
    """
    y, groups = _targets(target), _merged_groups(group, object_id)
    _check_enough(y, groups, folds)
    result = []
    for repeat in range(repeats):
        splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed + repeat)
        for number, (rest, test) in enumerate(splitter.split(y, y, groups)):
            train, validation = _inner_split(y, groups, rest, max(2, folds - 1), seed + repeat)
            result.append(
                Fold(repeat=repeat, fold=number, seed=seed + repeat, train=train, validation=validation, test=test)
            )
    return result


def leave_one_group_out(
    group: ArrayLike, target: ArrayLike, seed: int, *, object_id: ArrayLike | None = None
) -> Iterator[Fold]:
    """Yield one fold per group, which is its test set; about a fifth of the other rows are validation rows.

    Parameters are those of :func:`sky_folds`. ``ValueError`` with fewer than three groups, or objects of a class.
    """
    y, groups = _targets(target), _merged_groups(group, object_id)
    _check_enough(y, groups, 3)
    for number, (rest, test) in enumerate(LeaveOneGroupOut().split(y, y, groups)):
        train, validation = _inner_split(y, groups, rest, _VALIDATION_FOLDS, seed)
        yield Fold(repeat=0, fold=number, seed=seed, train=train, validation=validation, test=test)


def _targets(target: ArrayLike) -> NDArray[np.int64]:
    y = np.asarray(target, dtype=np.float64)
    if wrong := np.flatnonzero(~np.isin(y, (0, 1))).tolist():
        raise ValueError(f"target of object {wrong[0]} is {y[wrong[0]]}; allowed: 0 or 1")
    return y.astype(np.int64)


def _merged_groups(group: ArrayLike, object_id: ArrayLike | None) -> Rows:
    """Return (object,) group numbers from 0 on, the same for all groups that are linked by a shared object."""
    _, groups = np.unique(np.asarray(group), return_inverse=True)
    if object_id is None:
        return groups.astype(np.int64)
    _, identity = np.unique(np.asarray(object_id), return_inverse=True)
    nodes = groups.max(initial=-1) + 1
    size = nodes + identity.max(initial=-1) + 1
    links = coo_array((np.ones(len(groups)), (groups, nodes + identity)), shape=(size, size))
    _, component = connected_components(links, directed=False)
    _, merged = np.unique(component[groups], return_inverse=True)
    return merged.astype(np.int64)


def _check_enough(y: NDArray[np.int64], groups: Rows, folds: int) -> None:
    count = len(np.unique(groups))
    needed = max(folds, 4 if folds == 2 else 3)
    if count < needed:
        raise ValueError(f"there are {count} groups of sky; {folds} folds with a validation set need {needed} or more")
    rarest = int(np.bincount(y, minlength=2).min())
    if rarest < folds:
        raise ValueError(f"the rarer class has {rarest} objects; {folds} folds need {folds} or more")


def _inner_split(y: NDArray[np.int64], groups: Rows, rest: Rows, parts: int, seed: int) -> tuple[Rows, Rows]:
    """Split rows that are not tested into training and validation, by whole groups."""
    rarest = int(np.bincount(y[rest], minlength=2).min())
    count = len(np.unique(groups[rest]))
    if count < 2:
        raise ValueError(f"a fold leaves {count} group of sky to train and to validate on; make smaller groups")
    parts = min(parts, count)
    stratum = y[rest] if rarest >= parts else np.zeros(len(rest), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=seed)
    train, validation = next(iter(splitter.split(rest, stratum, groups[rest])))
    return rest[train], rest[validation]
