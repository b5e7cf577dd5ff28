"""A simulated survey with known truth, written in the layout of the Multimodal Universe."""
