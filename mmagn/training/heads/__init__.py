"""Many small heads trained as one batch."""
