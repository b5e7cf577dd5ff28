"""Names of the ten handcrafted features, in the order of the feature axis."""

FEATURE_NAMES: tuple[str, ...] = (
    "flux_oiii_5007",
    "flux_halpha",
    "flux_hbeta",
    "flux_nii_6584",
    "continuum_level",
    "ew_halpha",
    "ew_oiii_5007",
    "log_oiii_hbeta",
    "concentration",
    "contrast",
)
"""Eight of the spectrum, two of the image."""
IMAGING_FEATURES: tuple[str, ...] = ("concentration", "contrast")
"""Those that are measured on the image; the others come from the spectrum."""
LINE_FREE_FEATURES: tuple[str, ...] = ("continuum_level", "concentration", "contrast")
"""Those that no emission line enters: what is left of the ten where the diagnostic lines are blanked."""
