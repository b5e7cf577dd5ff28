"""Labels: BPT classes and the binary target derived from them."""
