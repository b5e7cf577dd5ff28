"""Settings of the network input."""

from dataclasses import dataclass, field
from typing import Literal

from mmagn.features.names import FEATURE_NAMES

Residency = Literal["auto", "device", "memory", "stream"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Random changes of the training input.

    Attributes
    ----------
    dihedral
        Rotations by 90 degrees and flips of the image.
    shift_pixels
        Largest shift of the image along each axis, in pixels and fractions of them.
    band_dropout
        Probability with which each band of an image is replaced by the nearest one that is left, as a band that was
        never observed is.
    image_noise
        Standard deviation of Gaussian noise added to the image, in units of ``tensors.image_noise_njy``.
    spectrum_noise
        Standard deviation of Gaussian noise added to the spectrum, in units of each grid pixel's own noise.
    image_dropout
        Probability with which an object is shown without its image and the features of the image, by a network that
        sees image and spectrum; so it learns to predict from a spectrum alone.
    spectrum_dropout
        Probability with which an object is shown without its spectrum and the features of the spectrum, likewise.
    """

    dihedral: bool = True
    shift_pixels: float = 0.0
    band_dropout: float = 0.0
    image_noise: float = 0.1
    spectrum_noise: float = 0.1
    image_dropout: float = 0.2
    spectrum_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("shift_pixels", "image_noise", "spectrum_noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"tensors.augment.{name} is {getattr(self, name)}; allowed: 0 or more")
        for name in ("image_dropout", "spectrum_dropout"):
            if getattr(self, name) < 0 or self.image_dropout + self.spectrum_dropout > 1:
                raise ValueError(
                    f"tensors.augment.{name} is {getattr(self, name)}; allowed: 0 or more, image and spectrum dropout"
                    " together at most 1"
                )
        if not 0 <= self.band_dropout < 1:
            raise ValueError(f"tensors.augment.band_dropout is {self.band_dropout}; allowed: 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class TensorsConfig:
    """How cutouts and spectra become tensors.

    Attributes
    ----------
    image_size
        Side of the central crop in pixels of 0.168 arcsec, even, 16 to 160.
    image_noise_njy
        Flux per pixel that counts as one unit of noise in each of the bands g, r, i, z, y. The same for every
        image, so that brightness and colour survive the stretch. The default lies between the pixel noise of
        a real UltraDeep COSMOS coadd (0.7, 0.8, 1.2, 1.9, 3.8 nJy) and that of the Deep layer at
        5 sigma depths of 27.4, 27.1, 26.9, 26.3, 25.3 mag.
    asinh_softening
        Flux in units of the pixel noise where the asinh stretch turns from linear to logarithmic.
    spectrum_min_angstrom
        Shortest rest-frame vacuum wavelength of the spectrum grid.
    spectrum_max_angstrom
        Longest rest-frame vacuum wavelength of the spectrum grid.
    spectrum_binning
        Native pixels of 1e-4 dex averaged (with ivar weights) into one grid pixel.
    blank_lines
        Replace the diagnostic lines (Hb, [O III], [O I], [N II], Ha, [S II], +-1000 km/s) of every spectrum by
        continuum plus noise.
    features
        Which of the ten handcrafted features the network is given, by name.
    residency
        Where prepared tensors live while batches are cut from them. ``device``: all of them on the device that trains;
        ``memory``: in files of ``data.cache_dir`` that are read as they are needed, ahead of the steps; ``stream``:
        nothing is prepared, each batch is made from the store, ahead of the steps; ``auto``: ``device`` where they
        take at most half of its free memory, else ``memory``. What the network sees does not depend on it.
    workers
        Threads that prepare tensors, and batches ahead of the steps.
    augment
        Random changes of the training input.
    """

    image_size: int = 96
    image_noise_njy: tuple[float, float, float, float, float] = (1.0, 1.3, 1.8, 2.8, 5.0)
    asinh_softening: float = 3.0
    spectrum_min_angstrom: float = 3800.0
    spectrum_max_angstrom: float = 7000.0
    spectrum_binning: int = 2
    blank_lines: bool = False
    features: tuple[str, ...] = FEATURE_NAMES
    residency: Residency = "auto"
    workers: int = 2
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if not 16 <= self.image_size <= 160 or self.image_size % 2:
            raise ValueError(f"tensors.image_size is {self.image_size}; allowed: an even number from 16 to 160")
        if len(self.image_noise_njy) != 5 or min(self.image_noise_njy) <= 0:
            raise ValueError(f"tensors.image_noise_njy is {self.image_noise_njy}; allowed: five numbers above 0")
        if self.asinh_softening <= 0:
            raise ValueError(f"tensors.asinh_softening is {self.asinh_softening}; allowed: above 0")
        if not 0 < self.spectrum_min_angstrom < self.spectrum_max_angstrom:
            raise ValueError("tensors.spectrum_min_angstrom must be above 0 and below tensors.spectrum_max_angstrom")
        if not 1 <= self.workers <= 64:
            raise ValueError(f"tensors.workers is {self.workers}; allowed: 1 to 64")
        if self.spectrum_binning < 1:
            raise ValueError(f"tensors.spectrum_binning is {self.spectrum_binning}; allowed: 1 or more")
        if unknown := [name for name in self.features if name not in FEATURE_NAMES]:
            raise ValueError(f"tensors.features has {unknown[0]}; allowed: {', '.join(FEATURE_NAMES)}")
        if not self.features or len(set(self.features)) != len(self.features):
            raise ValueError(f"tensors.features is {self.features}; allowed: one or more features, each once")
