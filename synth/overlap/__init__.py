"""Overlap of problems with benchmarks: word index and judge."""
