"""Deduplication methods, and the two ways in which the dedup stage runs them."""
