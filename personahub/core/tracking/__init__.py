"""Metrics and Weights & Biases."""
