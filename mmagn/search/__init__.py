"""Hyperparameters: what is searched, the study that searches it, and what is written about it."""
