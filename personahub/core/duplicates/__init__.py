"""Finds near-duplicates of short texts by words or by meaning. See `surface` and `embedding`."""
