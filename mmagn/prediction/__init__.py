"""Use of a trained model: P(AGN) of galaxies, explanation of a score, inspection of a spectrum."""
