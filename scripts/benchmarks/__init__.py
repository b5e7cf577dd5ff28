"""What the subcommands of benchmark.py measure."""
