"""Surveys: raw rows of HSC and SDSS in, cutouts and spectra out."""
