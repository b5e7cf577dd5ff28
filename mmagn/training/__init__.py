"""Training: the Lightning module, its losses and callbacks, and the run folder."""
