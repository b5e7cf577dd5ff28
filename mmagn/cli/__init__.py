"""Command line: arguments, one call, exit code."""
