"""The weights of each branch of a network at its best epoch, and which branches still learn."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class BestBranches:
    """Weights of each branch of a network at the epoch of its best validation score.

    ``branches`` are the names of the modules of each; ``""`` is the whole network.

    Attributes
    ----------
    scores, waited
        Best score of each branch, -inf before the first epoch, and epochs since then.
    states
        Its weights and buffers then.
    """

    def __init__(self, model: nn.Module, branches: Mapping[str, tuple[str, ...]]) -> None:
        self._model = [model]  # in a list, so that a module which holds this object does not count the model twice
        self.prefixes = {
            name: tuple(f"{module}." if module else "" for module in modules) for name, modules in branches.items()
        }
        self.scores = dict.fromkeys(branches, float("-inf"))
        self.waited = dict.fromkeys(branches, 0)
        self.states: dict[str, dict[str, Tensor]] = {}
        self._current = dict(self.scores)
        self._in_place = False

    def learning(self, patience: int) -> tuple[str, ...]:
        """Names of the branches that were at their best less than ``patience`` epochs ago; all where none was."""
        return tuple(name for name, epochs in self.waited.items() if epochs < patience) or tuple(self.waited)

    def selection(self, scores: Mapping[str, float]) -> float:
        """Mean over the branches of their best score, with those of the current epoch, which are remembered.

        Branches that learn no more have none in the current epoch.
        """
        self._current = dict(scores)
        return sum(max(best, scores.get(name, best)) for name, best in self.scores.items()) / len(self.scores)

    def update(self) -> bool:
        """Copy the weights of branches that are better than ever in the current epoch; True if there are any."""
        better = [name for name, score in self._current.items() if score > self.scores[name]]
        state = self._model[0].state_dict()
        self.waited = {name: 0 if name in better else epochs + 1 for name, epochs in self.waited.items()}
        for name in better:
            self.scores[name] = self._current[name]
            self.states[name] = {
                key: value.detach().clone() for key, value in state.items() if key.startswith(self.prefixes[name])
            }
        return bool(better)

    def restore(self) -> None:
        """Give each branch its best weights."""
        best = {key: value for state in self.states.values() for key, value in state.items()}
        self._model[0].load_state_dict({**self._model[0].state_dict(), **best})

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Block within which each branch has its best weights."""
        weights = {key: value.detach().clone() for key, value in self._model[0].state_dict().items()}
        self.restore()
        self._in_place = True
        try:
            yield
        finally:
            self._in_place = False
            self._model[0].load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        """Scores, epochs since then and states; nothing while the network itself has the best weights."""
        return {} if self._in_place else {"scores": self.scores, "waited": self.waited, "states": self.states}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore scores, epochs since then and states."""
        self.scores |= state_dict.get("scores", {})
        self.waited |= state_dict.get("waited", {})
        self.states = dict(state_dict.get("states", {}))
