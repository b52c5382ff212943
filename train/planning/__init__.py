"""Estimates memory and time, and checks limits, before a training run starts."""
