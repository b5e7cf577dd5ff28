"""Tensors: pairs and features as scaled network input."""
