"""Rows of a Multimodal Universe v1 tree of HDF5 files."""
