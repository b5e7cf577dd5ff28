"""Reporting: figures and the page of a run."""
