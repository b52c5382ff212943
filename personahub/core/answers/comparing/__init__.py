"""Comparison of parsed answers; the entry point is `compare.same`."""
