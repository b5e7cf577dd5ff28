"""Settings of the emission-line fitter."""

from dataclasses import dataclass
from typing import Literal

from mmagn.storage.settings import Settings, setting


@dataclass(frozen=True, kw_only=True)
class SpectroscopyConfig(Settings):
    """How continuum and emission lines are fitted.

    Attributes
    ----------
    batch_size
        Spectra fitted at once on the CPU: few enough for its cache.
    cuda_batch_size
        Spectra fitted at once on a GPU; 0 takes as many as half of its free memory holds.
    device
        ``auto`` takes CUDA where there is one.
    continuum
        ``basis``: a stellar basis learned from the survey itself, with the local fallback where too few
        spectra exist, or the templates if given; ``templates``: always those; ``local``: polynomials and the
        absorption of young, old and hot stars around H-beta and H-alpha.
    templates
        Spectra of stellar populations: a folder of FITS or text files, or an ``.npz`` file of pPXF.
    templates_medium
        Whether their wavelengths are in air or vacuum.
    basis_terms
        Eigenspectra of the learned basis besides the mean.
    basis_minimum
        Fewest spectra a basis is learned from; below it the local continuum is used.
    basis_maximum
        Most spectra a basis is learned from.
    broad_balmer
        Try a second, broad Balmer component and keep it where chi2 says so.
    """

    SECTION = "spectroscopy"
    batch_size: int = setting(128, "nothing", at_least=1)
    cuda_batch_size: int = setting(0, "nothing", at_least=0)
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "nothing")
    continuum: Literal["basis", "templates", "local"] = setting("basis", "measurements")
    templates: str = setting("", "measurements", path=True, needs=("spectroscopy.continuum", "basis", "templates"))
    templates_medium: Literal["air", "vacuum"] = setting(
        "air", "measurements", needs=("spectroscopy.continuum", "basis", "templates")
    )
    basis_terms: int = setting(10, "measurements", at_least=1, needs=("spectroscopy.continuum", "basis", "templates"))
    basis_minimum: int = setting(120, "measurements", at_least=1, needs=("spectroscopy.continuum", "basis"))
    basis_maximum: int = setting(2048, "measurements", at_least=1, needs=("spectroscopy.continuum", "basis"))
    broad_balmer: bool = setting(True, "measurements")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.continuum == "templates" and not self.templates:
            raise ValueError('spectroscopy.templates is ""; allowed: a folder or file where continuum is templates')
