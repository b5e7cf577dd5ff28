"""Settings of the network input."""

from dataclasses import dataclass
from typing import Literal

from mmagn.features.names import FEATURE_NAMES
from mmagn.storage.settings import Settings, section, setting
from mmagn.workers import available_cores

Residency = Literal["auto", "device", "memory", "stream"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Settings):
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
    """

    SECTION = "tensors.augment"
    dihedral: bool = setting(True, "fit", needs=("models.branches", "image"))
    shift_pixels: float = setting(0.0, "fit", at_least=0, needs=("models.branches", "image"))
    band_dropout: float = setting(0.0, "fit", at_least=0, below=1, needs=("models.branches", "image"))
    image_noise: float = setting(0.1, "fit", at_least=0, needs=("models.branches", "image"))
    spectrum_noise: float = setting(0.1, "fit", at_least=0, needs=("models.branches", "spectrum"))


@dataclass(frozen=True, kw_only=True)
class TensorsConfig(Settings):
    """How cutouts and spectra become tensors.

    Attributes
    ----------
    image_size
        Side of the crop about the source in pixels of 0.168 arcsec, even, 16 to 160; sources of published cutouts lie
        one pixel off the middle, so that only crops of up to 158 pixels have them in their middle.
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
        Threads that prepare tensors, and batches ahead of the steps; 0 takes one for each core.
    augment
        Random changes of the training input.
    """

    SECTION = "tensors"
    image_size: int = setting(96, "tensors", at_least=16, at_most=160, even=True, needs=("models.branches", "image"))
    image_noise_njy: tuple[float, float, float, float, float] = setting(
        (1.0, 1.3, 1.8, 2.8, 5.0), "tensors", above=0, needs=("models.branches", "image")
    )
    asinh_softening: float = setting(3.0, "tensors", above=0, needs=("models.branches", "image"))
    spectrum_min_angstrom: float = setting(3800.0, "tensors", above=0, needs=("models.branches", "spectrum"))
    spectrum_max_angstrom: float = setting(7000.0, "tensors", above=0, needs=("models.branches", "spectrum"))
    spectrum_binning: int = setting(2, "tensors", at_least=1, needs=("models.branches", "spectrum"))
    blank_lines: bool = setting(False, "tensors", needs=("models.branches", "spectrum"))
    features: tuple[str, ...] = setting(
        FEATURE_NAMES,
        "tensors",
        choices=FEATURE_NAMES,
        one_or_more=True,
        each_once=True,
        needs=("models.branches", "features"),
    )
    residency: Residency = setting("auto", "nothing")
    workers: int = setting(0, "nothing", at_least=0, at_most=64)
    augment: AugmentConfig = section(AugmentConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.spectrum_min_angstrom < self.spectrum_max_angstrom:
            raise ValueError(
                f"tensors.spectrum_min_angstrom is {self.spectrum_min_angstrom}; allowed: below "
                f"tensors.spectrum_max_angstrom, {self.spectrum_max_angstrom}"
            )

    @property
    def threads(self) -> int:
        """Number of threads that ``workers`` means on this machine."""
        return self.workers or min(64, available_cores())
