"""Rows of Parquet files in HATS layout, wherever the files are."""
