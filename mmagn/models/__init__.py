"""Models: image branch, spectrum branch and their fusion with the features."""
