"""Settings of a run, an ablation and a search, assembled from the settings of each package."""
