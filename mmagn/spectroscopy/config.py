"""Settings of the emission-line fitter."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SpectroscopyConfig:
    """How continuum and emission lines are fitted.

    Attributes
    ----------
    batch_size
        Spectra fitted at once on the CPU: few enough for its cache.
    cuda_batch_size
        Spectra fitted at once on a GPU: enough to fill it.
    device
        ``auto`` takes CUDA where there is one.
    continuum
        ``basis``: a stellar basis learned from the survey itself, with the local fallback where too few
        spectra exist; ``local``: polynomial with a Balmer absorption profile under H-alpha and H-beta.
    basis_terms
        Eigenspectra of the learned basis besides the mean.
    basis_minimum
        Fewest spectra a basis is learned from; below it the local continuum is used.
    basis_maximum
        Most spectra a basis is learned from.
    broad_balmer
        Try a second, broad Balmer component and keep it where chi2 says so.
    """

    batch_size: int = 128
    cuda_batch_size: int = 8192
    device: Literal["auto", "cpu", "cuda"] = "auto"
    continuum: Literal["basis", "local"] = "basis"
    basis_terms: int = 10
    basis_minimum: int = 120
    basis_maximum: int = 2048
    broad_balmer: bool = True

    def __post_init__(self) -> None:
        for name in ("batch_size", "cuda_batch_size", "basis_terms", "basis_minimum", "basis_maximum"):
            if getattr(self, name) < 1:
                raise ValueError(f"spectroscopy.{name} is {getattr(self, name)}; allowed: 1 or more")
