"""mmagn decides from two views of one galaxy, an HSC image and an SDSS spectrum, whether it hosts an AGN."""

from typing import TYPE_CHECKING, Any

from mmagn.storage.version import __version__

if TYPE_CHECKING:
    from mmagn.api import (
        Model,
        Pairs,
        Run,
        evaluate,
        load,
        match,
        measure,
        open_pairs,
        push,
        train,
    )
    from mmagn.config.run_config import RunConfig, load_config
    from mmagn.matching.galaxy_files import read_galaxy
    from mmagn.matching.objects import Galaxy
    from mmagn.pipeline import ablate, search
    from mmagn.records import Cutout, Pair, Spectrum

__all__ = [
    "Cutout",
    "Galaxy",
    "Model",
    "Pair",
    "Pairs",
    "Run",
    "RunConfig",
    "Spectrum",
    "__version__",
    "ablate",
    "evaluate",
    "load",
    "load_config",
    "match",
    "measure",
    "open_pairs",
    "push",
    "read_galaxy",
    "search",
    "train",
]

_HOMES = {
    **dict.fromkeys(("Cutout", "Pair", "Spectrum"), "mmagn.records"),
    "Galaxy": "mmagn.matching.objects",
    "read_galaxy": "mmagn.matching.galaxy_files",
    **dict.fromkeys(("ablate", "search"), "mmagn.pipeline"),
    **dict.fromkeys(("RunConfig", "load_config"), "mmagn.config.run_config"),
}


def __getattr__(name: str) -> Any:
    """Return a public name from its home on first use, so that ``import mmagn`` need not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module 'mmagn' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "mmagn.api")), name)


def __dir__() -> list[str]:
    """Return all public names, those that were not used yet included."""
    return list(__all__)
