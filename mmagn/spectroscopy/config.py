"""Settings of the emission-line fitter."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SpectroscopyConfig:
    """How continuum and emission lines are fitted.

    Attributes
    ----------
    batch_size
        Spectra fitted at once.
    device
        ``auto`` takes CUDA where there is one.
    continuum
        ``basis``: a stellar basis learned from the survey itself, with the local fallback where too few
        spectra exist; ``local``: polynomial with a Balmer absorption profile under H-alpha and H-beta.
    broad_balmer
        Try a second, broad Balmer component and keep it where chi2 says so.
    """

    batch_size: int = 256
    device: Literal["auto", "cpu", "cuda"] = "auto"
    continuum: Literal["basis", "local"] = "basis"
    broad_balmer: bool = True

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"spectroscopy.batch_size is {self.batch_size}; allowed: 1 or more")
