"""What is written to disk and how: whole files, digests, tables, run folders."""
