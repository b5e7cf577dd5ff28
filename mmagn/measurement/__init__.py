"""Emission lines, features and classes of many spectra as a table, and the cache of that table."""
