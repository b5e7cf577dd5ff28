"""mmagn decides from two views of one galaxy, an HSC image and an SDSS spectrum, whether it hosts an AGN."""

from typing import TYPE_CHECKING, Any

from mmagn.storage.version import __version__

if TYPE_CHECKING:
    from mmagn.config.run_config import RunConfig, load_config
    from mmagn.pipeline import ablate, evaluate, explain, match, measure, open_pairs, predict, search, train
    from mmagn.records import Cutout, Pair, Spectrum

__all__ = [
    "Cutout",
    "Pair",
    "RunConfig",
    "Spectrum",
    "__version__",
    "ablate",
    "evaluate",
    "explain",
    "load_config",
    "match",
    "measure",
    "open_pairs",
    "predict",
    "search",
    "train",
]

_HOMES = {
    **dict.fromkeys(("Cutout", "Pair", "Spectrum"), "mmagn.records"),
    **dict.fromkeys(("RunConfig", "load_config"), "mmagn.config.run_config"),
    **dict.fromkeys(
        ("ablate", "evaluate", "explain", "match", "measure", "open_pairs", "predict", "search", "train"),
        "mmagn.pipeline",
    ),
}


def __getattr__(name: str) -> Any:
    """Return a public name from its home on first use, so that ``import mmagn`` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mmagn' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
