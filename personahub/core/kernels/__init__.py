"""Kernels for duplicate search and embedding, compiled with numba."""
