"""Comparison of what a model may see: the same folds for every variant, with corrected intervals."""
