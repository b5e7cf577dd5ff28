"""Labels: BPT classes and the binary target made of them."""
