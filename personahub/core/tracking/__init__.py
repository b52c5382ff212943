"""Metrics, Weights & Biases and progress bars."""
