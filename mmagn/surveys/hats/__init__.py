"""Rows of HATS catalogues, read with LSDB on Dask."""
