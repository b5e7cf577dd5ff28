"""Frozen tasks that anyone can enter: the same rows for everyone, one scorer, and a board of entries."""
