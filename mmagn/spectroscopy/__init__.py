"""Spectroscopy: continuum and emission lines of many spectra at once."""
