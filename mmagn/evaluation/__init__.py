"""Evaluation: predictions and scores with intervals."""
