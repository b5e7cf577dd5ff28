"""Rows of HATS repositories on a Hugging Face hub, read by row group."""
