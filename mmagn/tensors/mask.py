"""Which pixels were usable and nothing else: what a model could read from the masks of an object alone."""

import numpy as np
from numpy.typing import NDArray

from mmagn.records import Cutout, Spectrum
from mmagn.tensors.config import TensorsConfig
from mmagn.tensors.image import central
from mmagn.tensors.spectrum import spectrum_tensor

SPECTRUM_PARTS = 32
"""Equal parts of the spectrum grid."""


def valid_fractions(cutout: Cutout, spectrum: Spectrum, config: TensorsConfig) -> NDArray[np.float64]:
    """Return the fraction (band + ``SPECTRUM_PARTS``,) of valid pixels in each band and each part of the grid."""
    bands = cutout.valid[central(cutout.flux.shape, config)].mean(axis=(1, 2))
    observed = spectrum_tensor(spectrum, config)[1] > 0
    return np.concatenate([bands, [part.mean() for part in np.array_split(observed, SPECTRUM_PARTS)]])
