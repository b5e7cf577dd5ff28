"""Figures, each drawn once with matplotlib."""
