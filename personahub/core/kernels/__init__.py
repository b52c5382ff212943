"""Compiled kernels (numba) for duplicate search."""
