"""Estimates of memory and time, and checks of limits, before a training run starts."""
