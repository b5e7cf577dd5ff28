"""The HTML report of a run, an ablation or a search."""
