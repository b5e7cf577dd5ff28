"""Galaxies in files of their own: SDSS and DESI spectra, whatever specutils reads, HSC cutouts; one row per galaxy."""
